output "image_repository" {
  description = "Where to push the image."
  value       = module.cutout.image_repository
}

output "build_command" {
  description = "Or builds and pushes it in Cloud Build."
  value       = module.cutout.build_command
}

output "jobs_topic" {
  description = "Where the storefront publishes."
  value       = module.cutout.jobs_topic
}

output "results_subscription" {
  description = "Where the storefront reads results."
  value       = module.cutout.results_subscription
}

output "dead_letter_subscription" {
  description = "For `cutout dlq`."
  value       = module.cutout.dead_letter_subscription
}

output "worker_service_account" {
  description = "Whom the workers run as."
  value       = module.cutout.worker_service_account
}
