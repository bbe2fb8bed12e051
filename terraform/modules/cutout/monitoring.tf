# Cloud Run's instances are not scraped, so what the worker knows comes out of its log; what Pub/Sub and
# Cloud Run know they tell by themselves. monitoring/alerts.yaml has the rules for Prometheus (GKE).

locals {
  # The worker's lines, of the pool or of the service.
  worker_log = local.pull ? (
    "resource.type=\"cloud_run_worker_pool\" AND resource.labels.worker_pool_name=\"${var.name}\""
    ) : (
    "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.name}\""
  )
  resource_type = local.pull ? "cloud_run_worker_pool" : "cloud_run_revision"

  email_channels = [for channel in google_monitoring_notification_channel.email : channel.name]
  channels       = concat(local.email_channels, var.notification_channels)
  runbook        = "The runbook is docs/operations.md in the worker's repository"
}

resource "google_monitoring_notification_channel" "email" {
  for_each = var.alert_emails

  project      = var.project_id
  display_name = "${var.name}: ${each.value}"
  type         = "email"
  labels = {
    email_address = each.value
  }

  depends_on = [google_project_service.this]
}

# ---- Metrics out of the log -----------------------------------------------------------------------

resource "google_logging_metric" "cold_start" {
  project         = var.project_id
  name            = "${var.name}/cold_start"
  description     = "Seconds from a worker's start until its network was loaded and warm"
  filter          = "${local.worker_log} AND jsonPayload.message=\"Model loaded\""
  value_extractor = "EXTRACT(jsonPayload.startup_seconds)"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "DISTRIBUTION"
    unit        = "s"
  }

  bucket_options {
    explicit_buckets {
      bounds = [1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240]
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_logging_metric" "jobs_ended" {
  project     = var.project_id
  name        = "${var.name}/jobs_ended"
  description = "Jobs that ended, by outcome: done, duplicate or failed"
  filter      = "${local.worker_log} AND jsonPayload.message=~\"^job (done|duplicate|failed)$\""

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"

    labels {
      key         = "outcome"
      value_type  = "STRING"
      description = "done, duplicate or failed"
    }
  }

  label_extractors = {
    outcome = "REGEXP_EXTRACT(jsonPayload.message, \"^job ([a-z]+)$\")"
  }

  depends_on = [google_project_service.this]
}

# ---- Alerts ---------------------------------------------------------------------------------------

resource "google_monitoring_alert_policy" "oldest_job" {
  project               = var.project_id
  display_name          = "${var.name}: jobs wait too long"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = local.channels
  user_labels           = var.labels

  conditions {
    display_name = "The oldest unanswered job is older than ${var.alert_oldest_job_seconds} s"

    condition_threshold {
      filter          = "resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.jobs.name}\" AND metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\""
      comparison      = "COMPARISON_GT"
      threshold_value = var.alert_oldest_job_seconds
      duration        = "300s"

      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    content = "No worker answers, or too few do: are there instances, do they start, is max_instances reached? ${local.runbook}: CutoutQueueOld, CutoutAbsent."
  }
}

resource "google_monitoring_alert_policy" "dead_letters" {
  project               = var.project_id
  display_name          = "${var.name}: dead letters"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels
  user_labels           = var.labels

  conditions {
    display_name = "Messages wait among the dead letters"

    condition_threshold {
      filter          = "resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.dead_letters.name}\" AND metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period   = "60s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    content = "`cutout dlq list --ingress pubsub --project ${var.project_id} --dead-letter-subscription ${google_pubsub_subscription.dead_letters.name}` says why. ${local.runbook}: CutoutDeadLetters."
  }
}

resource "google_monitoring_alert_policy" "failing" {
  project               = var.project_id
  display_name          = "${var.name}: many jobs fail"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels
  user_labels           = var.labels

  conditions {
    display_name = "More than ${var.alert_failed_ratio * 100} % of the jobs that ended within a quarter of an hour failed"

    condition_threshold {
      filter             = "resource.type=\"${local.resource_type}\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.jobs_ended.name}\" AND metric.labels.outcome=\"failed\""
      denominator_filter = "resource.type=\"${local.resource_type}\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.jobs_ended.name}\""
      comparison         = "COMPARISON_GT"
      threshold_value    = var.alert_failed_ratio
      duration           = "300s"

      aggregations {
        alignment_period     = "900s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }

      denominator_aggregations {
        alignment_period     = "900s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  documentation {
    content = "One code from one moment on is usually a change on the publisher's side. ${local.runbook}: CutoutJobsFailing."
  }
}

resource "google_monitoring_alert_policy" "cold_start" {
  project               = var.project_id
  display_name          = "${var.name}: slow cold starts"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = local.channels
  user_labels           = var.labels

  conditions {
    display_name = "A worker took longer than ${var.alert_cold_start_seconds} s until its network was ready"

    condition_threshold {
      filter          = "resource.type=\"${local.resource_type}\" AND metric.type=\"logging.googleapis.com/user/${google_logging_metric.cold_start.name}\""
      comparison      = "COMPARISON_GT"
      threshold_value = var.alert_cold_start_seconds
      duration        = "0s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_PERCENTILE_95"
        cross_series_reducer = "REDUCE_MAX"
      }
    }
  }

  documentation {
    content = "`cutout_startup_seconds` and the line `Model loaded` say which part takes the time. ${local.runbook}: CutoutNotReady."
  }
}

# ---- Uptime ---------------------------------------------------------------------------------------

resource "google_monitoring_uptime_check_config" "service" {
  count = var.uptime_check && var.image != null ? 1 : 0

  project      = var.project_id
  display_name = "${var.name}: /health"
  timeout      = "10s"
  # The rarest there is: each question wakes a service that has scaled to zero.
  period = "900s"

  http_check {
    path         = "/health"
    port         = 443
    use_ssl      = true
    validate_ssl = true
  }

  monitored_resource {
    type = "uptime_url"
    labels = {
      project_id = var.project_id
      host       = trimprefix(google_cloud_run_v2_service.worker[0].uri, "https://")
    }
  }
}

resource "google_monitoring_alert_policy" "uptime" {
  count = var.uptime_check && var.image != null ? 1 : 0

  project               = var.project_id
  display_name          = "${var.name}: /health does not answer"
  combiner              = "OR"
  severity              = "CRITICAL"
  notification_channels = local.channels
  user_labels           = var.labels

  conditions {
    display_name = "/health fails from two places"

    condition_threshold {
      filter          = "resource.type=\"uptime_url\" AND metric.type=\"monitoring.googleapis.com/uptime_check/check_passed\" AND metric.labels.check_id=\"${google_monitoring_uptime_check_config.service[0].uptime_check_id}\""
      comparison      = "COMPARISON_GT"
      threshold_value = 1
      duration        = "900s"

      aggregations {
        alignment_period     = "900s"
        per_series_aligner   = "ALIGN_NEXT_OLDER"
        cross_series_reducer = "REDUCE_COUNT_FALSE"
        group_by_fields      = ["resource.label.host"]
      }
    }
  }

  documentation {
    content = "${local.runbook}: /health."
  }
}

# ---- Dashboard ------------------------------------------------------------------------------------

locals {
  jobs_filter         = "resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${local.subscription}\""
  dead_letters_filter = "resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${local.topics.dead_letters}\""
  run_label           = local.pull ? "worker_pool_name" : "service_name"
  run_filter          = "resource.type=\"${local.resource_type}\" AND resource.labels.${local.run_label}=\"${var.name}\""
  log_filter          = "resource.type=\"${local.resource_type}\""

  # One line of a chart each: title, what, how it is made one number per minute, and how series are joined.
  charts = [
    { title = "Jobs that wait or are in work", filter = "${local.jobs_filter} AND metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\"", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM", by = [] },
    { title = "Age of the oldest job (s)", filter = "${local.jobs_filter} AND metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\"", aligner = "ALIGN_MAX", reducer = "REDUCE_MAX", by = [] },
    { title = "Jobs that ended, by outcome (a second)", filter = "${local.log_filter} AND metric.type=\"logging.googleapis.com/user/${var.name}/jobs_ended\"", aligner = "ALIGN_RATE", reducer = "REDUCE_SUM", by = ["metric.label.outcome"] },
    { title = "Dead letters", filter = "${local.dead_letters_filter} AND metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\"", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM", by = [] },
    { title = "Instances", filter = "${local.run_filter} AND metric.type=\"run.googleapis.com/container/instance_count\"", aligner = "ALIGN_MAX", reducer = "REDUCE_SUM", by = ["metric.label.state"] },
    { title = "Cold start, 95 % (s)", filter = "${local.log_filter} AND metric.type=\"logging.googleapis.com/user/${var.name}/cold_start\"", aligner = "ALIGN_PERCENTILE_95", reducer = "REDUCE_MAX", by = [] },
    { title = "CPU in use, 95 % of instances", filter = "${local.run_filter} AND metric.type=\"run.googleapis.com/container/cpu/utilizations\"", aligner = "ALIGN_PERCENTILE_95", reducer = "REDUCE_MAX", by = [] },
    { title = "Memory in use, 95 % of instances", filter = "${local.run_filter} AND metric.type=\"run.googleapis.com/container/memory/utilizations\"", aligner = "ALIGN_PERCENTILE_95", reducer = "REDUCE_MAX", by = [] },
  ]
}

resource "google_monitoring_dashboard" "this" {
  project = var.project_id

  dashboard_json = jsonencode({
    displayName = "${var.name}: background removal"
    mosaicLayout = {
      columns = 48
      tiles = [for number, chart in local.charts : {
        xPos   = 24 * (number % 2)
        yPos   = 16 * floor(number / 2)
        width  = 24
        height = 16
        widget = {
          title = chart.title
          xyChart = {
            dataSets = [{
              plotType = "LINE"
              timeSeriesQuery = {
                timeSeriesFilter = {
                  filter = chart.filter
                  aggregation = {
                    alignmentPeriod    = "60s"
                    perSeriesAligner   = chart.aligner
                    crossSeriesReducer = chart.reducer
                    groupByFields      = chart.by
                  }
                }
              }
            }]
          }
        }
      }]
    }
  })

  depends_on = [google_project_service.this]
}
