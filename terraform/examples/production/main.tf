# A shop's fleet: L4 workers that pull, an autoscaler, alerts and a budget.

terraform {
  required_version = ">= 1.9"

  # The bucket's name is given once: terraform init -backend-config=bucket=NAME
  backend "gcs" {
    prefix = "cutout"
  }

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
  # Budgets are asked for with the caller's own credentials, which must name a project that pays for the question.
  billing_project       = var.project_id
  user_project_override = true
}

module "cutout" {
  source = "../../modules/cutout"

  project_id = var.project_id
  region     = var.region
  image      = var.image
  labels     = { service = "cutout", stage = "production" }

  existing_uploads_bucket = var.existing_uploads_bucket
  uploads_lifetime_days   = var.existing_uploads_bucket == null ? 30 : null
  # The storefront publishes jobs with their options.
  upload_notifications = false
  publishers           = var.storefront == null ? [] : [var.storefront]
  result_consumers     = var.storefront == null ? [] : [var.storefront]

  ingress           = "pull"
  size              = "l4"
  min_instances     = var.min_instances
  max_instances     = var.max_instances
  concurrency       = 10
  autoscaler_target = 350

  alert_emails    = var.alert_emails
  billing_account = var.billing_account
  monthly_budget  = var.monthly_budget
}
