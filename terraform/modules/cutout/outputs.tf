output "jobs_topic" {
  description = "Where the storefront publishes jobs."
  value       = google_pubsub_topic.jobs.id
}

output "jobs_subscription" {
  description = "What the workers pull from, or what pushes to them."
  value       = google_pubsub_subscription.jobs.id
}

output "results_subscription" {
  description = "Where the storefront reads results."
  value       = google_pubsub_subscription.results.id
}

output "dead_letter_subscription" {
  description = "For `cutout dlq --dead-letter-subscription`."
  value       = google_pubsub_subscription.dead_letters.name
}

output "uploads_bucket" {
  description = "Where photos are uploaded."
  value       = local.uploads_bucket
}

output "results_bucket" {
  description = "Where outputs go when a job names no destination."
  value       = local.results_bucket
}

output "image_repository" {
  description = "What image names begin with: push REPOSITORY/worker:TAG, and set image to that."
  value       = "${google_artifact_registry_repository.images.location}-docker.pkg.dev/${var.project_id}/${google_artifact_registry_repository.images.repository_id}"
}

output "build_service_account" {
  description = "Whom Cloud Build builds as; null without builds."
  value       = one(google_service_account.builder[*].email)
}

output "build_command" {
  description = "Builds, scans and pushes the image of this checkout's commit; to be run where cloudbuild.yaml is. Null without builds."
  value = one([for account in google_service_account.builder : join(" \\\n  ", [
    "gcloud builds submit --project=${var.project_id} --region=${var.region}",
    "--service-account=${account.name}",
    "--gcs-source-staging-dir=gs://${local.builds_bucket}/source",
    "--substitutions=\"COMMIT_SHA=$(git rev-parse HEAD),${join(",", [for name, value in local.build_substitutions : "${name}=${value}"])}\"",
  ])])
}

output "worker_service_account" {
  description = "Whom the workers run as; give it the objectViewer role on further buckets that photos lie in."
  value       = google_service_account.worker.email
}

output "worker_environment" {
  description = "What the workers are told, for comparison with `cutout config`."
  value       = local.worker_environment
}

output "service_url" {
  description = "The push service's address; null with pull, or while image is null."
  value       = one(google_cloud_run_v2_service.worker[*].uri)
}

output "dashboard" {
  description = "The dashboard's name in Cloud Monitoring."
  value       = google_monitoring_dashboard.this.id
}
