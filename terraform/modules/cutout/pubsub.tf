# Three topics: what is to be done, what was done, and what could never be done.

resource "google_pubsub_schema" "jobs" {
  count = var.jobs_schema == null ? 0 : 1

  project    = var.project_id
  name       = local.topics.jobs
  type       = var.jobs_schema.type
  definition = var.jobs_schema.definition

  depends_on = [google_project_service.this]
}

resource "google_pubsub_topic" "jobs" {
  project = var.project_id
  name    = local.topics.jobs
  labels  = var.labels

  message_retention_duration = var.topic_retention_seconds == 0 ? null : "${var.topic_retention_seconds}s"

  dynamic "schema_settings" {
    for_each = google_pubsub_schema.jobs

    content {
      schema   = schema_settings.value.id
      encoding = "JSON"
    }
  }

  depends_on = [google_project_service.this]
}

resource "google_pubsub_topic" "results" {
  project = var.project_id
  name    = local.topics.results
  labels  = var.labels

  depends_on = [google_project_service.this]
}

resource "google_pubsub_topic" "dead_letters" {
  project = var.project_id
  name    = local.topics.dead_letters
  labels  = var.labels

  depends_on = [google_project_service.this]
}

resource "google_pubsub_subscription" "jobs" {
  project = var.project_id
  name    = local.subscription
  topic   = google_pubsub_topic.jobs.id
  labels  = var.labels

  ack_deadline_seconds         = local.ack_deadline_seconds
  message_retention_duration   = "${var.message_retention_seconds}s"
  enable_exactly_once_delivery = var.exactly_once

  # Otherwise Pub/Sub deletes a subscription that nobody asked for 31 days.
  expiration_policy {
    ttl = ""
  }

  # Without one, a job that was given back comes again at once, and its attempts are used up in a minute.
  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letters.id
    max_delivery_attempts = local.max_delivery_attempts
  }

  dynamic "push_config" {
    for_each = google_cloud_run_v2_service.worker

    content {
      push_endpoint = "${push_config.value.uri}/pubsub/push"

      oidc_token {
        service_account_email = google_service_account.pusher[0].email
        audience              = local.push_audience
      }
    }
  }

  # Until Pub/Sub may publish there, it forwards nothing to the dead letters; and it pushes nothing without tokens.
  depends_on = [
    google_pubsub_topic_iam_member.dead_letters_by_pubsub,
    google_service_account_iam_member.tokens_by_pubsub,
  ]
}

# Results wait here for the storefront; without a subscription Pub/Sub drops them.
resource "google_pubsub_subscription" "results" {
  project = var.project_id
  name    = local.topics.results
  topic   = google_pubsub_topic.results.id
  labels  = var.labels

  ack_deadline_seconds       = 60
  message_retention_duration = "${var.message_retention_seconds}s"
  # The results of one job in their order.
  enable_message_ordering = true

  expiration_policy {
    ttl = ""
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }
}

# Dead letters wait here for `cutout dlq`, for as long as Pub/Sub keeps anything.
resource "google_pubsub_subscription" "dead_letters" {
  project = var.project_id
  name    = local.topics.dead_letters
  topic   = google_pubsub_topic.dead_letters.id
  labels  = var.labels

  ack_deadline_seconds       = 60
  message_retention_duration = "2678400s"

  expiration_policy {
    ttl = ""
  }
}
