# What follows from the variables. `terraform test` in the module's folder runs this with Google's provider and no
# credentials; scripts/check-terraform.sh with a stand-in for it.

mock_provider "google" {}

variables {
  project_id = "my-project"
  region     = "europe-west1"
}

run "the_defaults_are_those_of_the_seed_deployment" {
  command = plan

  assert {
    condition     = jsonencode(local.limits) == jsonencode({ "cpu" = "8", "memory" = "32Gi", "nvidia.com/gpu" = "1" })
    error_message = "An L4 with 8 CPU and 32 GiB."
  }

  assert {
    condition     = var.min_instances == 0 && var.max_instances == 3
    error_message = "0 to 3 workers."
  }

  assert {
    condition = alltrue([for name, value in {
      GOOGLE_CLOUD_PROJECT       = "my-project"
      CUTOUT_INGRESS             = "pubsub"
      CUTOUT_SUBSCRIPTION        = "cutout-jobs"
      CUTOUT_RESULTS_TOPIC       = "cutout-results"
      CUTOUT_DEAD_LETTER_TOPIC   = "cutout-dead-letters"
      STORAGE_BUCKET             = "my-project-cutout-results"
      CUTOUT_SOURCE_BUCKETS      = "my-project-cutout-uploads,my-project-cutout-results"
      CUTOUT_DESTINATION_BUCKETS = "my-project-cutout-results"
      CUTOUT_MAX_JOBS            = "10"
      CUTOUT_JOB_TIMEOUT         = "300s"
      CUTOUT_PROVIDER            = "cuda"
      INSPIRENET_MODE            = "base"
      INSPIRENET_RESIZE          = "dynamic"
      TARGET_SIZE                = "1024"
      LOG_LEVEL                  = "info"
    } : local.worker_environment[name] == value])
    error_message = "The environment: ${jsonencode(local.worker_environment)}"
  }

  assert {
    condition     = !can(local.worker_environment["CUTOUT_PUSH_AUDIENCE"]) && !can(local.worker_environment["CUTOUT_HTTP_API"])
    error_message = "Nothing of push or the HTTP API where neither is asked for."
  }

  assert {
    condition     = local.max_delivery_attempts == 10 && local.ack_deadline_seconds == 60
    error_message = "Pull: 10 attempts, 60 s."
  }
}

run "push_has_its_audience_account_and_patience" {
  command = plan

  variables {
    ingress = "push"
  }

  assert {
    condition = (
      local.worker_environment["CUTOUT_INGRESS"] == "push"
      && local.worker_environment["CUTOUT_PUSH_AUDIENCE"] == "cutout-push"
      && local.worker_environment["CUTOUT_PUSH_SERVICE_ACCOUNT"] == "cutout-pusher@my-project.iam.gserviceaccount.com"
    )
    error_message = "The environment: ${jsonencode(local.worker_environment)}"
  }

  assert {
    condition     = local.max_delivery_attempts == 100 && local.ack_deadline_seconds == 600 && !local.autoscaled
    error_message = "100 attempts, 600 s, no autoscaler."
  }
}

run "sizes_can_be_smaller_without_a_card_or_of_ones_own" {
  command = plan

  variables {
    size            = "cpu"
    memory_gib      = 16
    inspyrenet_mode = null
  }

  assert {
    condition     = jsonencode(local.limits) == jsonencode({ "cpu" = "4", "memory" = "16Gi" }) && local.worker_environment["CUTOUT_PROVIDER"] == "auto"
    error_message = "No card, 4 CPU, 16 GiB: ${jsonencode(local.limits)}"
  }

  assert {
    condition     = !can(local.worker_environment["INSPIRENET_MODE"])
    error_message = "Null leaves the choice to the worker."
  }
}

run "the_small_card_is_what_cloud_run_asks_for_at_least" {
  command = plan

  variables {
    size = "l4-small"
  }

  assert {
    condition     = jsonencode(local.limits) == jsonencode({ "cpu" = "4", "memory" = "16Gi", "nvidia.com/gpu" = "1" })
    error_message = jsonencode(local.limits)
  }
}

run "the_autoscaler_scales_this_pool_by_this_subscription" {
  command = plan

  variables {
    min_instances     = 1
    max_instances     = 6
    autoscaler_target = 350
  }

  assert {
    condition     = local.autoscaled && yamldecode(local.autoscaler_config).kind == "CremaConfig"
    error_message = local.autoscaler_config
  }

  assert {
    condition = (
      yamldecode(local.autoscaler_config).spec.scaledObjects[0].spec.scaleTargetRef.name == "projects/my-project/locations/europe-west1/workerpools/cutout"
      && yamldecode(local.autoscaler_config).spec.scaledObjects[0].spec.minReplicaCount == 1
      && yamldecode(local.autoscaler_config).spec.scaledObjects[0].spec.maxReplicaCount == 6
      && yamldecode(local.autoscaler_config).spec.scaledObjects[0].spec.triggers[0].metadata.serverAddress == "https://monitoring.googleapis.com/v1/projects/my-project/location/global/prometheus"
      && yamldecode(local.autoscaler_config).spec.scaledObjects[0].spec.triggers[0].metadata.query == "sum({\"__name__\"=\"pubsub.googleapis.com/subscription/num_undelivered_messages\",\"monitored_resource\"=\"pubsub_subscription\",\"subscription_id\"=\"cutout-jobs\"})"
      && yamldecode(local.autoscaler_config).spec.scaledObjects[0].spec.triggers[0].metadata.threshold == "350"
      && yamldecode(local.autoscaler_config).spec.scaledObjects[0].spec.triggers[0].authenticationRef.name == yamldecode(local.autoscaler_config).spec.triggerAuthentications[0].metadata.name
    )
    error_message = local.autoscaler_config
  }
}

run "existing_buckets_and_further_settings_reach_the_worker" {
  command = plan

  variables {
    existing_uploads_bucket = "shop-photos"
    existing_results_bucket = "shop-photos"
    ingress                 = "push"
    http_api                = true
    cors_origins            = ["https://shop.example", "https://*.myshopify.com"]
    environment = {
      CUTOUT_MAX_PIXELS           = "20000000"
      OTEL_EXPORTER_OTLP_ENDPOINT = "https://collector.example:4318"
    }
  }

  assert {
    condition = (
      local.worker_environment["CUTOUT_SOURCE_BUCKETS"] == "shop-photos"
      && local.worker_environment["STORAGE_BUCKET"] == "shop-photos"
      && local.worker_environment["CUTOUT_CORS_ORIGINS"] == "https://shop.example,https://*.myshopify.com"
      && local.worker_environment["CUTOUT_CLIENT_IP"] == "RightmostXForwardedFor"
      && local.worker_environment["CUTOUT_MAX_PIXELS"] == "20000000"
      && local.worker_environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == "https://collector.example:4318"
    )
    error_message = jsonencode(local.worker_environment)
  }
}

run "what_cannot_work_is_refused_before_anything_is_made" {
  command = plan

  variables {
    project_id            = "My Project"
    region                = "europe-west1-b"
    name                  = "C"
    ingress               = "pull"
    size                  = "l4"
    cpu                   = 2
    memory_gib            = 8
    min_instances         = 4
    max_instances         = 3
    exactly_once          = false
    max_delivery_attempts = 3
    http_api              = true
    uptime_check          = true
    concurrency           = 200
    inspyrenet_mode       = "best"
    target_size           = 1000
    environment           = { CUTOUT_MAX_PIXEL = "1" }
    publishers            = ["allUsers"]
    jobs_schema           = { type = "AVRO", definition = "{}" }
    uploads_lifetime_days = 1
    billing_account       = "billingAccounts/1"
  }

  expect_failures = [
    var.project_id,
    var.region,
    var.name,
    var.cpu,
    var.memory_gib,
    var.max_instances,
    var.max_delivery_attempts,
    var.http_api,
    var.uptime_check,
    var.autoscaler_target,
    var.inspyrenet_mode,
    var.target_size,
    var.environment,
    var.publishers,
    var.jobs_schema,
    var.uploads_lifetime_days,
    var.billing_account,
  ]
}

run "push_has_limits_of_its_own" {
  command = plan

  variables {
    ingress             = "push"
    exactly_once        = true
    job_timeout_seconds = 900
  }

  expect_failures = [
    var.exactly_once,
    var.job_timeout_seconds,
  ]
}

run "an_ack_deadline_below_the_job_time_out_is_refused" {
  command = plan

  variables {
    ingress              = "push"
    ack_deadline_seconds = 60
  }

  expect_failures = [
    var.ack_deadline_seconds,
  ]
}
