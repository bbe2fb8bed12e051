"""What a worker costs by the second."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Price:
    """Cloud Run with one L4, US dollars a second, billed from start to end of an instance.

    Assumptions, to be checked against the current list (https://cloud.google.com/run/pricing): CPU and
    memory are that page's instance-based prices of services in tier 1 as of 2025, which worker pools
    undercut; the L4 without zonal redundancy is 0.67 dollars an hour in what was published about it
    in 2025 and 2026.
    """

    gpu: float = 0.67 / 3600
    vcpu: float = 0.000018
    gib: float = 0.000002
    gib_per_vcpu: float = 4.0
    """16 GiB with 4 vCPU (the least that an L4 takes), 32 GiB with 8."""

    def per_second(self, vcpus: int) -> float:
        return self.gpu + vcpus * (self.vcpu + self.gib_per_vcpu * self.gib)

    def per_hour(self, vcpus: int) -> float:
        return 3600 * self.per_second(vcpus)
