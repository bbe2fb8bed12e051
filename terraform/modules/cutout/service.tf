# Push: a service that Pub/Sub's requests start and that ends when none come.
resource "google_cloud_run_v2_service" "worker" {
  count = local.push && var.image != null ? 1 : 0

  project             = var.project_id
  name                = var.name
  location            = var.region
  labels              = var.labels
  deletion_protection = var.deletion_protection

  ingress = var.service_ingress
  # Where Cloud Run checks callers itself it takes the token's signature away, and the worker, which
  # believes no token that it cannot check, refuses every push (docs/push.md).
  invoker_iam_disabled = true

  template {
    service_account       = google_service_account.worker.email
    labels                = var.labels
    execution_environment = "EXECUTION_ENVIRONMENT_GEN2"

    # As many jobs as one worker takes: Cloud Run starts another instance instead of having pushes refused.
    max_instance_request_concurrency = var.concurrency
    # Not below the acknowledgement deadline, or Cloud Run breaks the request off first. The job's own limit is
    # CUTOUT_JOB_TIMEOUT.
    timeout = "${max(local.ack_deadline_seconds, var.job_timeout_seconds)}s"

    gpu_zonal_redundancy_disabled = local.gpu ? !var.gpu_zonal_redundancy : null

    scaling {
      min_instance_count = var.min_instances
      max_instance_count = var.max_instances
    }

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

      ports {
        container_port = 8080
      }

      resources {
        limits = local.limits
        # A GPU is only to be had with CPU at all times.
        cpu_idle          = !local.gpu
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = local.worker_environment

        content {
          name  = env.key
          value = env.value
        }
      }

      startup_probe {
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 24

        http_get {
          path = "/startup"
          port = 8080
        }
      }

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

  depends_on = [
    google_pubsub_topic_iam_member.results_by_worker,
    google_pubsub_topic_iam_member.dead_letters_by_worker,
    google_storage_bucket_iam_member.uploads_by_worker,
    google_storage_bucket_iam_member.results_by_worker,
  ]
}
