# Everything that follows from the variables alone. No resource is looked at here, so a plan knows all of it:
# tests/settings.tftest.hcl does.

locals {
  pull = var.ingress == "pull"
  push = var.ingress == "push"

  # Names are made here, not taken from the resources: the workers' environment has them too, and a
  # resource whose name another resource's environment needs would make a circle.
  topics = {
    jobs         = "${var.name}-jobs"
    results      = "${var.name}-results"
    dead_letters = "${var.name}-dead-letters"
  }
  subscription   = "${var.name}-jobs"
  uploads_bucket = coalesce(var.existing_uploads_bucket, "${var.project_id}-${var.name}-uploads")
  results_bucket = coalesce(var.existing_results_bucket, "${var.project_id}-${var.name}-results")
  pusher         = "${var.name}-pusher@${var.project_id}.iam.gserviceaccount.com"
  push_audience  = "${var.name}-push"

  # 5 attempts, Pub/Sub's own default, are used up by five deployments: a drain gives jobs back. With push
  # every answer but 2xx counts; 100 with a back-off of up to 600 s last for most of a day.
  max_delivery_attempts = coalesce(var.max_delivery_attempts, local.pull ? 10 : 100)
  ack_deadline_seconds  = coalesce(var.ack_deadline_seconds, local.pull ? 60 : 600)

  # Cloud Run's smallest CPU and memory with an L4 are 4 and 16 GiB.
  sizes = {
    "l4"       = { cpu = 8, memory_gib = 32, gpu = true }
    "l4-small" = { cpu = 4, memory_gib = 16, gpu = true }
    "cpu"      = { cpu = 4, memory_gib = 8, gpu = false }
  }
  gpu = local.sizes[var.size].gpu
  limits = merge(
    {
      "cpu"    = tostring(coalesce(var.cpu, local.sizes[var.size].cpu))
      "memory" = "${coalesce(var.memory_gib, local.sizes[var.size].memory_gib)}Gi"
    },
    local.gpu ? { "nvidia.com/gpu" = "1" } : {},
  )

  # The worker's environment. `cutout worker --help` explains each; PORT is Cloud Run's to set.
  worker_environment = merge(
    {
      GOOGLE_CLOUD_PROJECT       = var.project_id
      CUTOUT_INGRESS             = local.pull ? "pubsub" : "push"
      CUTOUT_SUBSCRIPTION        = local.subscription
      CUTOUT_RESULTS_TOPIC       = local.topics.results
      CUTOUT_DEAD_LETTER_TOPIC   = local.topics.dead_letters
      STORAGE_BUCKET             = local.results_bucket
      CUTOUT_SOURCE_BUCKETS      = join(",", distinct([local.uploads_bucket, local.results_bucket]))
      CUTOUT_DESTINATION_BUCKETS = local.results_bucket
      CUTOUT_MAX_JOBS            = tostring(var.concurrency)
      CUTOUT_JOB_TIMEOUT         = "${var.job_timeout_seconds}s"
      # Cloud Run kills 10 s after SIGTERM.
      CUTOUT_DRAIN_TIMEOUT = "8s"
      # By name: without the card the start fails, instead of going on slowly on the CPU.
      CUTOUT_PROVIDER = local.gpu ? "cuda" : "auto"
      LOG_LEVEL       = var.log_level
    },
    var.upload_prefix == "" ? {} : { CUTOUT_UPLOAD_PREFIX = var.upload_prefix },
    var.inspyrenet_mode == null ? {} : { INSPIRENET_MODE = var.inspyrenet_mode },
    var.inspyrenet_resize == null ? {} : { INSPIRENET_RESIZE = var.inspyrenet_resize },
    var.target_size == null ? {} : { TARGET_SIZE = tostring(var.target_size) },
    local.pull ? {} : {
      CUTOUT_PUSH_AUDIENCE        = local.push_audience
      CUTOUT_PUSH_SERVICE_ACCOUNT = local.pusher
    },
    var.http_api ? {
      CUTOUT_HTTP_API = "true"
      # The last address in X-Forwarded-For is Google's front end's own word; the others are the client's.
      CUTOUT_CLIENT_IP = "RightmostXForwardedFor"
    } : {},
    length(var.cors_origins) == 0 ? {} : { CUTOUT_CORS_ORIGINS = join(",", var.cors_origins) },
    var.environment,
  )

  # How an image is built with cloudbuild.yaml: its substitutions that follow from the variables here.
  builds_bucket = "${var.project_id}-${var.name}-builds"
  build_substitutions = merge(
    {
      _NAME     = var.name
      _REGION   = var.region
      _PROVIDER = local.gpu ? "cuda" : "cpu"
      # On-demand scanning is in three places of the world.
      _SCAN_LOCATION = lookup({ europe = "europe", asia = "asia", australia = "asia" }, split("-", var.region)[0], "us")
    },
    # InSPyReNet is exported by whoever serves it, and put beside the source (docs/deploy.md).
    var.inspyrenet_mode == null ? {} : {
      _MODEL    = "inspyrenet-${var.inspyrenet_mode}"
      _NETWORKS = "gs://${local.builds_bucket}/networks"
    },
  )

  # What CREMA does; its format is KEDA's, as described in
  # https://github.com/GoogleCloudPlatform/cloud-run-external-metrics-autoscaling (metric-provider/api/README.md).
  autoscaled = local.pull && var.autoscaling
  autoscaler_config = yamlencode({
    apiVersion = "crema/v1"
    kind       = "CremaConfig"
    spec = {
      # With an interval CREMA polls by itself; the metric is sampled each minute.
      pollingInterval = 30
      triggerAuthentications = [{
        metadata = { name = "own-identity" }
        spec     = { podIdentity = { provider = "gcp" } }
      }]
      scaledObjects = [{
        spec = {
          scaleTargetRef  = { name = "projects/${var.project_id}/locations/${var.region}/workerpools/${var.name}" }
          minReplicaCount = var.min_instances
          maxReplicaCount = var.max_instances
          triggers = [{
            # Not gcp-pubsub, which KEDA has deprecated with the language that it asks Cloud Monitoring in:
            # https://keda.sh/blog/2025-09-15-gcp-deprecations/. No answer counts as 0: an idle subscription
            # has no samples.
            type = "prometheus"
            name = "backlog"
            metadata = {
              serverAddress = "https://monitoring.googleapis.com/v1/projects/${var.project_id}/location/global/prometheus"
              query = format("sum({%s})", join(",", [for name, value in {
                "__name__"         = "pubsub.googleapis.com/subscription/num_undelivered_messages"
                monitored_resource = "pubsub_subscription"
                subscription_id    = local.subscription
              } : "\"${name}\"=\"${value}\""]))
              threshold = tostring(var.autoscaler_target)
            }
            authenticationRef = { name = "own-identity" }
          }]
          # Scaling in goes by the highest wish of five minutes: the metric is two to three minutes old, and a
          # worker that is stopped gives its jobs back.
          advanced = {
            horizontalPodAutoscalerConfig = {
              behavior = { scaleDown = { stabilizationWindowSeconds = 300 } }
            }
          }
        }
      }]
    }
  })
}
