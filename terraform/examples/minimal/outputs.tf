output "image_repository" {
  description = "Where to push the image."
  value       = module.cutout.image_repository
}

output "uploads_bucket" {
  description = "Upload a photo here,"
  value       = module.cutout.uploads_bucket
}

output "results_bucket" {
  description = "and find its cut-out here."
  value       = module.cutout.results_bucket
}
