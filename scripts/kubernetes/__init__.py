"""Checks of the manifests for Kubernetes without a cluster."""
