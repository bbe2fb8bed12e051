# Images from Cloud Build: what is made for it, and the command that follows from the variables.

mock_provider "google" {
  mock_resource "google_service_account" {
    defaults = {
      name = "projects/my-project/serviceAccounts/somebody"
    }
  }
}

variables {
  project_id = "my-project"
  region     = "europe-west1"
}

run "a_build_has_an_account_a_cache_and_a_bucket" {
  assert {
    condition = (
      google_service_account.builder[0].account_id == "cutout-builder"
      && google_artifact_registry_repository.cache[0].repository_id == "cutout-cache"
      && google_storage_bucket.builds[0].name == "my-project-cutout-builds"
    )
    error_message = "By the names that cloudbuild.yaml has."
  }

  assert {
    condition     = length(google_artifact_registry_repository.cache[0].docker_config) == 0 && google_artifact_registry_repository.images.docker_config[0].immutable_tags
    error_message = "The cache's tag moves with every build, an image's never."
  }

  assert {
    condition     = google_storage_bucket.builds[0].lifecycle_rule[0].condition[0].matches_prefix == tolist(["source/"])
    error_message = "Sources are removed, networks and bills of materials are not."
  }

  assert {
    condition     = alltrue([for api in ["cloudbuild", "containeranalysis", "ondemandscanning"] : contains(keys(google_project_service.this), "${api}.googleapis.com")])
    error_message = "The APIs: ${jsonencode(keys(google_project_service.this))}"
  }
}

run "the_account_writes_images_layers_bills_and_its_log_and_reads_the_source" {
  assert {
    condition = (
      google_artifact_registry_repository_iam_member.images_by_builder[0].role == "roles/artifactregistry.writer"
      && google_artifact_registry_repository_iam_member.cache_by_builder[0].role == "roles/artifactregistry.writer"
      && google_storage_bucket_iam_member.source_by_builder[0].role == "roles/storage.objectViewer"
      && length(google_storage_bucket_iam_member.source_by_builder[0].condition) == 0
    )
    error_message = "Writers of the two repositories, reader of the bucket."
  }

  assert {
    condition     = google_storage_bucket_iam_member.bills_by_builder[0].condition[0].expression == "resource.name.startsWith(\"projects/_/buckets/my-project-cutout-builds/objects/sbom/\")"
    error_message = "It writes below sbom/ alone: ${google_storage_bucket_iam_member.bills_by_builder[0].condition[0].expression}"
  }
}

run "the_command_builds_what_the_variables_ask_for" {
  assert {
    condition = output.build_command == join("\n", [
      "gcloud builds submit --project=my-project --region=europe-west1 \\",
      "  --service-account=projects/my-project/serviceAccounts/somebody \\",
      "  --gcs-source-staging-dir=gs://my-project-cutout-builds/source \\",
      "  --substitutions=\"COMMIT_SHA=$(git rev-parse HEAD),_MODEL=inspyrenet-base,_NAME=cutout,_NETWORKS=gs://my-project-cutout-builds/networks,_PROVIDER=cuda,_REGION=europe-west1,_SCAN_LOCATION=europe\"",
    ])
    error_message = output.build_command
  }
}

run "without_a_card_or_a_network_of_ones_own_it_is_shorter" {
  variables {
    region          = "australia-southeast1"
    size            = "cpu"
    inspyrenet_mode = null
  }

  assert {
    condition     = endswith(output.build_command, "HEAD),_NAME=cutout,_PROVIDER=cpu,_REGION=australia-southeast1,_SCAN_LOCATION=asia\"")
    error_message = output.build_command
  }
}

run "scans_outside_of_europe_and_asia_are_made_in_the_us" {
  command = plan

  variables {
    region = "southamerica-east1"
  }

  assert {
    condition     = local.build_substitutions["_SCAN_LOCATION"] == "us"
    error_message = local.build_substitutions["_SCAN_LOCATION"]
  }
}

run "without_builds_nothing_is_made_for_them" {
  variables {
    builds = false
  }

  assert {
    condition = (
      length(google_service_account.builder) == 0
      && length(google_artifact_registry_repository.cache) == 0
      && length(google_storage_bucket.builds) == 0
      && length(google_project_iam_member.bills_by_builder) == 0
      && length(google_project_iam_member.logs_by_builder) == 0
      && !contains(keys(google_project_service.this), "cloudbuild.googleapis.com")
    )
    error_message = "No account, no cache, no bucket, no API."
  }

  assert {
    condition     = output.build_command == null && output.build_service_account == null
    error_message = "No command."
  }
}

run "whether_there_are_builds_is_true_or_false" {
  command = plan

  variables {
    builds = null
  }

  assert {
    condition     = var.builds
    error_message = "Null is the default."
  }
}
