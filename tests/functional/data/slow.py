"""The onebox daemon on a slow machine: a pod runs for seconds before Podman has told so."""

import time

from onebox import daemon, pods


class SlowPodman(pods.Podman):
    def ensure(self, pod: pods.Pod) -> None:
        super().ensure(pod)
        time.sleep(3)


pods.Podman = SlowPodman
daemon.main()
