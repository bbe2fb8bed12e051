# Pull: workers that are there for as long as the autoscaler says. CPU is always theirs, so there is no
# CPU boost to ask for.
resource "google_cloud_run_v2_worker_pool" "worker" {
  count = local.pull && var.image != null ? 1 : 0

  project             = var.project_id
  name                = var.name
  location            = var.region
  labels              = var.labels
  deletion_protection = var.deletion_protection

  scaling {
    scaling_mode          = "MANUAL"
    manual_instance_count = var.min_instances
  }

  template {
    service_account = google_service_account.worker.email
    labels          = var.labels

    gpu_zonal_redundancy_disabled = local.gpu ? !var.gpu_zonal_redundancy : null

    dynamic "node_selector" {
      for_each = local.gpu ? ["nvidia-l4"] : []

      content {
        accelerator = node_selector.value
      }
    }

    containers {
      name  = "worker"
      image = var.image
      args  = ["worker"]

      resources {
        limits = local.limits
      }

      dynamic "env" {
        for_each = local.worker_environment

        content {
          name  = env.key
          value = env.value
        }
      }

      # 240 s, the longest that Cloud Run takes, for library, network and warm-up.
      startup_probe {
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 24

        http_get {
          path = "/startup"
          port = 8080
        }
      }

      # 503 there means that a restart is the remedy; outages of Pub/Sub or Cloud Storage answer 200.
      liveness_probe {
        period_seconds    = 30
        timeout_seconds   = 5
        failure_threshold = 3

        http_get {
          path = "/health"
          port = 8080
        }
      }
    }
  }

  lifecycle {
    # The autoscaler's, or whoever sets it by hand: an apply must not stop workers in the midst of a launch.
    ignore_changes = [scaling[0].manual_instance_count]
  }

  # The start looks at topics, subscription and buckets and fails where it may not use them.
  depends_on = [
    google_pubsub_topic_iam_member.results_by_worker,
    google_pubsub_topic_iam_member.dead_letters_by_worker,
    google_pubsub_subscription_iam_member.jobs_by_worker,
    google_storage_bucket_iam_member.uploads_by_worker,
    google_storage_bucket_iam_member.results_by_worker,
  ]
}
