# Worker pools do not scale by themselves. CREMA, Google's autoscaler on KEDA's scalers, reads the backlog and
# sets the number: https://docs.cloud.google.com/run/docs/configuring/workerpools/crema-autoscaling
# One instance of it runs all the time.

resource "google_parameter_manager_parameter" "autoscaler" {
  count = local.autoscaled ? 1 : 0

  project      = var.project_id
  parameter_id = "${var.name}-autoscaler"
  format       = "YAML"
  labels       = var.labels

  depends_on = [google_project_service.this]
}

resource "google_parameter_manager_parameter_version" "autoscaler" {
  count = local.autoscaled ? 1 : 0

  parameter = google_parameter_manager_parameter.autoscaler[0].id
  # Named by its content: CREMA reads it at its start, and a new name is a new revision of CREMA.
  parameter_version_id = "c-${substr(sha256(local.autoscaler_config), 0, 12)}"
  parameter_data       = local.autoscaler_config

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_cloud_run_v2_service" "autoscaler" {
  count = local.autoscaled && var.image != null ? 1 : 0

  project             = var.project_id
  name                = "${var.name}-autoscaler"
  location            = var.region
  labels              = merge(var.labels, { created-by = "crema" })
  deletion_protection = false
  # It asks; nobody asks it.
  ingress = "INGRESS_TRAFFIC_INTERNAL_ONLY"

  # Exactly one: two would work against each other.
  scaling {
    scaling_mode          = "MANUAL"
    manual_instance_count = 1
  }

  template {
    service_account = google_service_account.autoscaler[0].email

    containers {
      name           = "autoscaler"
      image          = var.autoscaler_image
      base_image_uri = var.autoscaler_base_image

      resources {
        limits = {
          cpu    = "1"
          memory = "512Mi"
        }
        # It works between requests: it gets none.
        cpu_idle = false
      }

      env {
        name  = "CREMA_CONFIG"
        value = google_parameter_manager_parameter_version.autoscaler[0].name
      }

      env {
        name  = "OUTPUT_SCALER_METRICS"
        value = "False"
      }

      env {
        name  = "ENABLE_CLOUD_LOGGING"
        value = "False"
      }
    }
  }

  depends_on = [
    google_cloud_run_v2_worker_pool_iam_member.pool_by_autoscaler,
    google_service_account_iam_member.worker_by_autoscaler,
    google_project_iam_member.metrics_by_autoscaler,
    google_project_iam_member.configuration_by_autoscaler,
  ]
}
