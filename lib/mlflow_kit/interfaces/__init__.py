"""The wire of each relation interface, one module each.

Only these modules know key names. A reader takes plain mappings, so that a vector from an
interface's specification is a test as it stands, and answers `databag.Absent`,
`databag.Invalid` or a frozen model; it never raises on what the other side sent. A writer
returns the keys to save; an empty value removes a key.
"""
