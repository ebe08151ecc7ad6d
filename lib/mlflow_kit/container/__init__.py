"""Programs that charms push into workload containers; they import the standard library only."""
