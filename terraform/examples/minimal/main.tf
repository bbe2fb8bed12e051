# The least that runs: one command makes everything but the workers, a second one, with the image's name, those.
# State is kept in this folder, which is for trying out: production keeps it in a bucket.

terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 7.6, < 8.0"
    }
  }
}

provider "google" {
  project = var.project_id
  region  = var.region
}

module "cutout" {
  source = "../../modules/cutout"

  project_id = var.project_id
  region     = var.region
  image      = var.image

  # The image that `make setup` and the README describe has ISNet; it needs no card. The network's choice is
  # the worker's then.
  size              = "cpu"
  inspyrenet_mode   = null
  inspyrenet_resize = null
  target_size       = null

  # Nothing runs while no photo comes.
  ingress             = "push"
  deletion_protection = false
}
