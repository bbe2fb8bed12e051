# What is made of the variables, by applies in which mock_provider answers in Google's place.

mock_provider "google" {
  mock_data "google_project" {
    defaults = {
      number = "123456789012"
    }
  }
}

variables {
  project_id = "my-project"
  region     = "europe-west1"
}

run "without_an_image_there_is_everything_but_workers" {
  assert {
    condition     = length(google_cloud_run_v2_worker_pool.worker) == 0 && length(google_cloud_run_v2_service.worker) == 0 && length(google_cloud_run_v2_service.autoscaler) == 0
    error_message = "Nothing runs without an image."
  }

  assert {
    condition     = google_pubsub_subscription.jobs.dead_letter_policy[0].max_delivery_attempts == 10
    error_message = "The queue is there."
  }
}

run "pull_has_a_pool_and_its_autoscaler" {
  variables {
    image                 = "worker:1"
    alert_emails          = ["a@shop.example"]
    billing_account       = "012345-6789AB-CDEF01"
    publishers            = ["serviceAccount:storefront@my-project.iam.gserviceaccount.com"]
    result_consumers      = ["serviceAccount:storefront@my-project.iam.gserviceaccount.com"]
    uploads_lifetime_days = 30
    results_lifetime_days = 60
    upload_prefix         = "2026/"
  }

  assert {
    condition     = google_cloud_run_v2_worker_pool.worker[0].template[0].node_selector[0].accelerator == "nvidia-l4" && length(google_cloud_run_v2_service.worker) == 0
    error_message = "A pool with an L4, and no service."
  }

  assert {
    condition     = google_cloud_run_v2_service.autoscaler[0].scaling[0].manual_instance_count == 1 && google_parameter_manager_parameter_version.autoscaler[0].parameter_data == local.autoscaler_config
    error_message = "One autoscaler that reads this configuration."
  }

  assert {
    condition     = length(google_pubsub_subscription.jobs.push_config) == 0
    error_message = "Nobody pushes."
  }

  assert {
    condition     = [for rule in google_storage_bucket.results[0].lifecycle_rule : rule.condition[0].age] == [2, 60]
    error_message = "The cache goes after two days, outputs after sixty."
  }

  assert {
    condition     = google_storage_notification.uploads[0].object_name_prefix == "2026/"
    error_message = "Only uploads below the prefix are announced."
  }

  assert {
    condition     = length(jsondecode(google_monitoring_dashboard.this.dashboard_json).mosaicLayout.tiles) == length(local.charts)
    error_message = "A tile for each chart."
  }

  assert {
    condition     = google_billing_budget.this[0].budget_filter[0].projects == tolist(["projects/123456789012"]) && length(google_billing_budget.this[0].threshold_rules) == 4
    error_message = "A budget for this project."
  }
}

run "push_has_a_service_that_only_its_subscription_wakes" {
  variables {
    image   = "worker:1"
    ingress = "push"
  }

  assert {
    condition = (
      endswith(google_pubsub_subscription.jobs.push_config[0].push_endpoint, "/pubsub/push")
      && google_pubsub_subscription.jobs.push_config[0].oidc_token[0].audience == local.worker_environment["CUTOUT_PUSH_AUDIENCE"]
      && google_service_account.pusher[0].account_id == split("@", local.worker_environment["CUTOUT_PUSH_SERVICE_ACCOUNT"])[0]
    )
    error_message = "The subscription pushes with what the worker expects."
  }

  assert {
    condition = (
      google_cloud_run_v2_service.worker[0].ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY"
      && google_cloud_run_v2_service.worker[0].invoker_iam_disabled
      && google_cloud_run_v2_service.worker[0].template[0].timeout == "600s"
      && google_cloud_run_v2_service.worker[0].template[0].max_instance_request_concurrency == 10
      && google_cloud_run_v2_service.worker[0].template[0].scaling[0].max_instance_count == 3
    )
    error_message = "A service as docs/push.md describes it."
  }

  assert {
    condition     = length(google_cloud_run_v2_worker_pool.worker) == 0 && length(google_pubsub_subscription_iam_member.jobs_by_worker) == 0 && length(google_service_account.autoscaler) == 0
    error_message = "No pool, no autoscaler, and no right to the subscription."
  }
}

run "a_public_service_can_be_watched" {
  variables {
    image           = "worker:1"
    ingress         = "push"
    service_ingress = "INGRESS_TRAFFIC_ALL"
    uptime_check    = true
    http_api        = true
  }

  assert {
    condition     = google_monitoring_uptime_check_config.service[0].http_check[0].path == "/health"
    error_message = "Google asks for /health."
  }
}

run "everything_may_be_there_already" {
  variables {
    image                   = "worker:1"
    size                    = "cpu"
    autoscaling             = false
    enable_apis             = false
    existing_uploads_bucket = "shop-photos"
    existing_results_bucket = "shop-photos"
    upload_notifications    = false
    topic_retention_seconds = 0
    jobs_schema             = { type = "AVRO", definition = "{}" }
  }

  assert {
    condition     = length(google_project_service.this) == 0 && length(google_storage_bucket.uploads) == 0 && length(google_storage_bucket.results) == 0
    error_message = "No APIs, no buckets."
  }

  assert {
    condition     = length(google_cloud_run_v2_worker_pool.worker[0].template[0].node_selector) == 0 && length(google_cloud_run_v2_service.autoscaler) == 0
    error_message = "No card, no autoscaler."
  }

  assert {
    condition     = google_pubsub_topic.jobs.schema_settings[0].encoding == "JSON"
    error_message = "The schema is used."
  }
}
