resource "google_artifact_registry_repository" "images" {
  project       = var.project_id
  location      = var.region
  repository_id = var.name
  description   = "Container images of the cutout worker"
  format        = "DOCKER"
  labels        = var.labels

  docker_config {
    # What a revision runs, and what a rollback goes back to, must stay what it was.
    immutable_tags = true
  }

  # An image is 3 GB. The newest ten stay, whatever their age: they are what a rollback needs.
  cleanup_policies {
    id     = "keep-the-newest"
    action = "KEEP"

    most_recent_versions {
      keep_count = 10
    }
  }

  cleanup_policies {
    id     = "delete-the-old"
    action = "DELETE"

    condition {
      tag_state  = "ANY"
      older_than = "2592000s" # 30 days
    }
  }

  depends_on = [google_project_service.this]
}
