"""Checks of the Terraform code, and of the manifests for GKE, without cloud, provider or network."""
