resource "google_storage_bucket" "uploads" {
  count = var.existing_uploads_bucket == null ? 1 : 0

  project  = var.project_id
  name     = local.uploads_bucket
  location = coalesce(var.bucket_location, var.region)
  labels   = var.labels

  # Permissions are those of IAM alone, and none can be given to everybody: these are customers' photos.
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = var.force_destroy

  dynamic "lifecycle_rule" {
    for_each = var.uploads_lifetime_days == null ? [] : [var.uploads_lifetime_days]

    content {
      action {
        type = "Delete"
      }
      condition {
        age = lifecycle_rule.value
      }
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 2
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_storage_bucket" "results" {
  count = var.existing_results_bucket == null ? 1 : 0

  project  = var.project_id
  name     = local.results_bucket
  location = coalesce(var.bucket_location, var.region)
  labels   = var.labels

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = var.force_destroy

  # The HTTP API's cache. A cut-out counts for CUTOUT_CACHE_TTL (24 h); nobody removes it after that.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 2
      matches_prefix = ["inspirenet-cache/"]
    }
  }

  dynamic "lifecycle_rule" {
    for_each = var.results_lifetime_days == null ? [] : [var.results_lifetime_days]

    content {
      action {
        type = "Delete"
      }
      condition {
        age = lifecycle_rule.value
      }
    }
  }

  depends_on = [google_project_service.this]
}

# Every finished upload becomes a message. The worker skips what it wrote itself, also where uploads and
# results share a bucket.
resource "google_storage_notification" "uploads" {
  count = var.upload_notifications ? 1 : 0

  bucket             = local.uploads_bucket
  topic              = google_pubsub_topic.jobs.id
  payload_format     = "JSON_API_V1"
  event_types        = ["OBJECT_FINALIZE"]
  object_name_prefix = var.upload_prefix == "" ? null : var.upload_prefix

  depends_on = [
    google_storage_bucket.uploads,
    # Cloud Storage tries to publish when the notification is made.
    google_pubsub_topic_iam_member.jobs_by_storage,
  ]
}
