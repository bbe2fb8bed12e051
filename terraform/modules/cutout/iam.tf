# Who may do what. Every role is given on the one thing that it is needed for, except where Google has
# no narrower place; each says why.

# ---- The worker -----------------------------------------------------------------------------------

resource "google_service_account" "worker" {
  project      = var.project_id
  account_id   = "${var.name}-worker"
  display_name = "cutout worker"

  depends_on = [google_project_service.this]
}

# Publishes a result before each ack.
resource "google_pubsub_topic_iam_member" "results_by_worker" {
  project = var.project_id
  topic   = google_pubsub_topic.results.name
  role    = "roles/pubsub.publisher"
  member  = google_service_account.worker.member
}

# Publishes what can never succeed, with its reason.
resource "google_pubsub_topic_iam_member" "dead_letters_by_worker" {
  project = var.project_id
  topic   = google_pubsub_topic.dead_letters.name
  role    = "roles/pubsub.publisher"
  member  = google_service_account.worker.member
}

# The start looks whether both topics exist, so that a wrong name shows before the first photo is cut out. The
# publisher's role cannot look.
resource "google_pubsub_topic_iam_member" "seen_by_worker" {
  for_each = {
    results      = google_pubsub_topic.results.name
    dead_letters = google_pubsub_topic.dead_letters.name
  }

  project = var.project_id
  topic   = each.value
  role    = "roles/pubsub.viewer"
  member  = google_service_account.worker.member
}

# Pulls, acks and extends (subscriber), and looks at the subscription at the start and for /health (viewer).
# With push nobody pulls, so the worker has no right to the subscription.
resource "google_pubsub_subscription_iam_member" "jobs_by_worker" {
  for_each = local.pull ? toset(["roles/pubsub.subscriber", "roles/pubsub.viewer"]) : toset([])

  project      = var.project_id
  subscription = google_pubsub_subscription.jobs.name
  role         = each.value
  member       = google_service_account.worker.member
}

# Reads photos, and lists one object to see whether the bucket answers.
resource "google_storage_bucket_iam_member" "uploads_by_worker" {
  bucket = local.uploads_bucket
  role   = "roles/storage.objectViewer"
  member = google_service_account.worker.member

  depends_on = [google_storage_bucket.uploads]
}

# Writes outputs, looks for those of a former delivery, and replaces them (which Cloud Storage counts as
# deleting) for jobs with overwrite and for the cache. It may not change the bucket or anybody's permissions.
resource "google_storage_bucket_iam_member" "results_by_worker" {
  bucket = local.results_bucket
  role   = "roles/storage.objectUser"
  member = google_service_account.worker.member

  depends_on = [google_storage_bucket.results]
}

# ---- Google's own agents --------------------------------------------------------------------------

data "google_storage_project_service_account" "this" {
  project = var.project_id

  depends_on = [google_project_service.this]
}

locals {
  pubsub_agent = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

# Cloud Storage announces uploads.
resource "google_pubsub_topic_iam_member" "jobs_by_storage" {
  count = var.upload_notifications ? 1 : 0

  project = var.project_id
  topic   = google_pubsub_topic.jobs.name
  role    = "roles/pubsub.publisher"
  member  = "serviceAccount:${data.google_storage_project_service_account.this.email_address}"
}

# Pub/Sub moves messages whose attempts are used up: it publishes them there,
resource "google_pubsub_topic_iam_member" "dead_letters_by_pubsub" {
  project = var.project_id
  topic   = google_pubsub_topic.dead_letters.name
  role    = "roles/pubsub.publisher"
  member  = local.pubsub_agent
}

# and acks them here. Without either of the two it goes on delivering them, silently.
resource "google_pubsub_subscription_iam_member" "jobs_by_pubsub" {
  project      = var.project_id
  subscription = google_pubsub_subscription.jobs.name
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}

# ---- Push -----------------------------------------------------------------------------------------

# Whom Pub/Sub pushes as. It has no role at all: the worker itself checks the token's signature.
resource "google_service_account" "pusher" {
  count = local.push ? 1 : 0

  project      = var.project_id
  account_id   = "${var.name}-pusher"
  display_name = "cutout: Pub/Sub pushes as this account"

  depends_on = [google_project_service.this]
}

# Pub/Sub makes the tokens. Newer projects have this by default, on all accounts.
resource "google_service_account_iam_member" "tokens_by_pubsub" {
  count = local.push ? 1 : 0

  service_account_id = google_service_account.pusher[0].name
  role               = "roles/iam.serviceAccountTokenCreator"
  member             = local.pubsub_agent
}

# ---- The autoscaler -------------------------------------------------------------------------------

resource "google_service_account" "autoscaler" {
  count = local.autoscaled ? 1 : 0

  project      = var.project_id
  account_id   = "${var.name}-autoscaler"
  display_name = "cutout: CREMA, which sets the number of workers"

  depends_on = [google_project_service.this]
}

# Sets the number of instances of this one pool.
resource "google_cloud_run_v2_worker_pool_iam_member" "pool_by_autoscaler" {
  count = local.autoscaled && var.image != null ? 1 : 0

  project  = var.project_id
  location = var.region
  name     = google_cloud_run_v2_worker_pool.worker[0].name
  role     = "roles/run.developer"
  member   = google_service_account.autoscaler[0].member
}

# Cloud Run asks this of whoever changes a workload that runs as the worker.
resource "google_service_account_iam_member" "worker_by_autoscaler" {
  count = local.autoscaled ? 1 : 0

  service_account_id = google_service_account.worker.name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.autoscaler[0].member
}

# Reads the backlog from Cloud Monitoring, which knows permissions of projects only.
resource "google_project_iam_member" "metrics_by_autoscaler" {
  count = local.autoscaled ? 1 : 0

  project = var.project_id
  role    = "roles/monitoring.viewer"
  member  = google_service_account.autoscaler[0].member
}

# Reads its configuration. The provider cannot give this on one parameter.
resource "google_project_iam_member" "configuration_by_autoscaler" {
  count = local.autoscaled ? 1 : 0

  project = var.project_id
  role    = "roles/parametermanager.parameterViewer"
  member  = google_service_account.autoscaler[0].member
}

# ---- The storefront -------------------------------------------------------------------------------

resource "google_pubsub_topic_iam_member" "jobs_by_publishers" {
  for_each = var.publishers

  project = var.project_id
  topic   = google_pubsub_topic.jobs.name
  role    = "roles/pubsub.publisher"
  member  = each.value
}

resource "google_pubsub_subscription_iam_member" "results_by_consumers" {
  for_each = var.result_consumers

  project      = var.project_id
  subscription = google_pubsub_subscription.results.name
  role         = "roles/pubsub.subscriber"
  member       = each.value
}
