terraform {
  # 1.9 lets a variable's validation look at other variables.
  required_version = ">= 1.9"

  required_providers {
    google = {
      source = "hashicorp/google"
      # Probes of worker pools came during 7.x.
      version = ">= 7.6, < 8.0"
    }
  }
}
