"""Checks of the Terraform code that need neither Terraform nor the provider nor a network."""
