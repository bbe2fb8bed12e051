locals {
  apis = var.enable_apis ? toset(concat(
    [
      "artifactregistry.googleapis.com",     # the image
      "cloudresourcemanager.googleapis.com", # the project's number
      "iam.googleapis.com",                  # service accounts
      "logging.googleapis.com",              # log-based metrics
      "monitoring.googleapis.com",           # dashboard and alerts
      "pubsub.googleapis.com",
      "run.googleapis.com",
      "storage.googleapis.com",
    ],
    var.builds ? [
      "cloudbuild.googleapis.com",
      "containeranalysis.googleapis.com", # provenance and bills of materials
      "ondemandscanning.googleapis.com",
    ] : [],
    local.autoscaled ? ["parametermanager.googleapis.com"] : [], # the autoscaler's configuration
    var.billing_account == null ? [] : ["billingbudgets.googleapis.com"],
  )) : toset([])
}

resource "google_project_service" "this" {
  for_each = local.apis

  project = var.project_id
  service = each.value
  # Others in the project may use it too.
  disable_on_destroy = false
}

data "google_project" "this" {
  project_id = var.project_id

  depends_on = [google_project_service.this]
}
