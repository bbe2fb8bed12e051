"""Checks of the Terraform code without cloud, provider or network."""
