output "image_repository" {
  description = "Where to push the image."
  value       = module.cutout.image_repository
}

output "build_command" {
  description = "Or builds and pushes it in Cloud Build."
  value       = module.cutout.build_command
}

output "uploads_bucket" {
  description = "Upload a photo here,"
  value       = module.cutout.uploads_bucket
}

output "results_bucket" {
  description = "and find its cut-out here."
  value       = module.cutout.results_bucket
}
