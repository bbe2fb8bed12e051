# What cloudbuild.yaml needs: an account to build as, a place for layers of former builds, and a bucket for the
# source and the bills of materials. Which permission each of its steps asks for was read in gcloud's own code
# and in the pages named below; none of it has been tried.

resource "google_service_account" "builder" {
  count = var.builds ? 1 : 0

  project      = var.project_id
  account_id   = "${var.name}-builder"
  display_name = "cutout: Cloud Build builds images as this account"

  depends_on = [google_project_service.this]
}

# A cache is one tag that every build moves, which the images' repository forbids.
resource "google_artifact_registry_repository" "cache" {
  count = var.builds ? 1 : 0

  project       = var.project_id
  location      = var.region
  repository_id = "${var.name}-cache"
  description   = "Layers of former builds of the cutout worker"
  format        = "DOCKER"
  labels        = var.labels

  # What a build leaves behind when it moves the tag.
  cleanup_policies {
    id     = "delete-what-no-tag-names"
    action = "DELETE"

    condition {
      tag_state  = "UNTAGGED"
      older_than = "86400s" # a day
    }
  }

  # The cache of a variant that nobody builds any more.
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

# Without a bucket of its own, `gcloud builds submit` makes PROJECT_cloudbuild, in the US, for all builds of
# the project and without an end to what it keeps.
resource "google_storage_bucket" "builds" {
  count = var.builds ? 1 : 0

  project  = var.project_id
  name     = local.builds_bucket
  location = var.region
  labels   = var.labels

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = var.force_destroy

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 7
      matches_prefix = ["source/"]
    }
  }

  depends_on = [google_project_service.this]
}

# ---- What the account may do ----------------------------------------------------------------------

# Pushes the image, and pulls it to be scanned and described.
resource "google_artifact_registry_repository_iam_member" "images_by_builder" {
  count = var.builds ? 1 : 0

  project    = var.project_id
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.builder[0].member
}

# Reads the cache and moves its tag. Writers may do both; deleting is the clean-up policy's.
resource "google_artifact_registry_repository_iam_member" "cache_by_builder" {
  count = var.builds ? 1 : 0

  project    = var.project_id
  location   = google_artifact_registry_repository.cache[0].location
  repository = google_artifact_registry_repository.cache[0].name
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.builder[0].member
}

# Reads the source that was submitted, and networks that somebody put beside it.
resource "google_storage_bucket_iam_member" "source_by_builder" {
  count = var.builds ? 1 : 0

  bucket = google_storage_bucket.builds[0].name
  role   = "roles/storage.objectViewer"
  member = google_service_account.builder[0].member
}

# Writes bills of materials, again for an image that is built again, and nothing else.
resource "google_storage_bucket_iam_member" "bills_by_builder" {
  count = var.builds ? 1 : 0

  bucket = google_storage_bucket.builds[0].name
  role   = "roles/storage.objectUser"
  member = google_service_account.builder[0].member

  condition {
    title      = "bills of materials"
    expression = "resource.name.startsWith(\"projects/_/buckets/${local.builds_bucket}/objects/sbom/\")"
  }
}

# Writes the build's log. An account of one's own cannot use Cloud Build's bucket for that
# (https://docs.cloud.google.com/build/docs/securing-builds/configure-user-specified-service-accounts), and log
# buckets cannot be written to with a permission of their own.
resource "google_project_iam_member" "logs_by_builder" {
  count = var.builds ? 1 : 0

  project = var.project_id
  role    = "roles/logging.logWriter"
  member  = google_service_account.builder[0].member
}

# Has the packages of the image looked up. Google has no other role for it, and this one no other permission
# (https://docs.cloud.google.com/iam/docs/roles-permissions/ondemandscanning).
resource "google_project_iam_member" "scans_by_builder" {
  count = var.builds ? 1 : 0

  project = var.project_id
  role    = "roles/ondemandscanning.admin"
  member  = google_service_account.builder[0].member
}

# Ties the bill of materials to the image by an occurrence. gcloud looks whether the project has the note that
# such occurrences belong to, and makes it the first time: hence the notes, which the provider cannot make
# (https://docs.cloud.google.com/artifact-analysis/docs/upload-sboms).
resource "google_project_iam_member" "bills_by_builder" {
  for_each = var.builds ? toset(["roles/containeranalysis.notes.editor", "roles/containeranalysis.occurrences.editor"]) : toset([])

  project = var.project_id
  role    = each.value
  member  = google_service_account.builder[0].member
}
