{{/* What the services are told: their variables, from the chart's settings. */}}

{{/* The settings of one service as YAML: what the chart knows by itself, then shared, clients, its own. */}}
{{- define "haulyard.config" -}}
{{- $values := .root.Values }}
{{- $known := dict }}
{{- if and $values.nats.enabled (not $values.secrets.natsUrl) (not $values.secrets.existingSecret) }}
{{- $_ := set $known "natsUrl" (printf "nats://%s:4222" (include "haulyard.natsService" .root)) }}
{{- end }}
{{- $sections := list $known $values.config.shared }}
{{- if has .name (list "gateway" "notifier") }}
{{- $sections = append $sections $values.config.clients }}
{{- with $values.hosts.api }}
{{- $_ := set $known "corsOrigins" (list (printf "%s://%s" (include "haulyard.scheme" $) .)) }}
{{- end }}
{{- end }}
{{- if eq .name "gateway" }}
{{- with $values.hosts.api }}{{ $_ := set $known "publicApiUrl" (printf "%s://%s" (include "haulyard.scheme" $) .) }}{{ end }}
{{- with $values.hosts.live }}{{ $_ := set $known "publicNotifierUrl" (printf "%s://%s" (include "haulyard.scheme" $) .) }}{{ end }}
{{- end }}
{{- /* By hand, because "merge" takes false, 0 and an empty list for "not set". */}}
{{- $config := dict }}
{{- range append $sections (index $values.config .name) }}
{{- range $key, $value := . }}
{{- $_ := set $config $key $value }}
{{- end }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- define "haulyard.scheme" -}}
{{- ternary "https" "http" .root.Values.hosts.tls }}
{{- end }}

{{/* As the official chart calls its Service. */}}
{{- define "haulyard.natsService" -}}
{{- if .Values.nats.fullnameOverride }}
{{- .Values.nats.fullnameOverride }}
{{- else if contains (.Values.nats.nameOverride | default "nats") .Release.Name }}
{{- .Release.Name }}
{{- else }}
{{- printf "%s-%s" .Release.Name (.Values.nats.nameOverride | default "nats") }}
{{- end }}
{{- end }}

{{/* natsReplicas becomes HAULYARD_NATS_REPLICAS. */}}
{{- define "haulyard.variable" -}}
{{- printf "HAULYARD_%s" (regexReplaceAll "([A-Z])" . "_${1}" | upper) }}
{{- end }}

{{/* Numbers arrive as floats: 33554432 must not become 3.3554432e+07. */}}
{{- define "haulyard.value" -}}
{{- if kindIs "slice" . }}{{ join "," . }}
{{- else if kindIs "float64" . }}{{ if eq (floor .) . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- else }}{{ . }}
{{- end }}
{{- end }}

{{/* The data of a service's ConfigMap. What is empty is left to the service's default; an empty list says "none". */}}
{{- define "haulyard.variables" -}}
{{- range $key, $value := include "haulyard.config" . | fromYaml }}
{{- if not (or (kindIs "invalid" $value) (and (kindIs "string" $value) (eq $value ""))) }}
{{ include "haulyard.variable" $key }}: {{ include "haulyard.value" $value | quote }}
{{- end }}
{{- end }}
{{- end }}

{{/* The secrets that a service uses: each has only those. */}}
{{- define "haulyard.secretsOf" -}}
gateway: [natsUrl, postgresDsn, redisUrl, s3AccessKey, s3SecretKey, jwtSecret, jwtSecretSecondary, ticketSecret, ticketSecretSecondary, sentryDsn]
orchestrator: [natsUrl, postgresDsn, redisUrl, s3AccessKey, s3SecretKey, sentryDsn]
archiver: [natsUrl, s3AccessKey, s3SecretKey, sentryDsn]
notifier: [natsUrl, postgresDsn, redisUrl, s3AccessKey, s3SecretKey, jwtSecret, jwtSecretSecondary, ticketSecret, ticketSecretSecondary, webhookSecret, sentryDsn]
migrate: []
{{- end }}

{{/* Those that may be missing in the Secret. */}}
{{- define "haulyard.optionalSecrets" -}}
optional: [jwtSecret, jwtSecretSecondary, ticketSecretSecondary, webhookSecret, sentryDsn]
{{- end }}

{{/* Secrets that a service must have by its settings and never uses. */}}
{{- define "haulyard.unusedOf" -}}
archiver: {postgresDsn: "postgresql://not-for-archivers", redisUrl: "redis://not-for-archivers"}
migrate:
  natsUrl: nats://not-for-migrations
  redisUrl: redis://not-for-migrations
  s3Endpoint: http://not-for-migrations
  s3AccessKey: not-for-migrations
  s3SecretKey: not-for-migrations
{{- end }}

{{- define "haulyard.env" -}}
{{- $root := .root }}
{{- $config := dict }}
{{- if ne .name "migrate" }}{{ $config = include "haulyard.config" . | fromYaml }}{{ end }}
{{- $may := (include "haulyard.optionalSecrets" . | fromYaml).optional }}
{{- $given := $root.Values.secrets }}
{{- range $key := index (include "haulyard.secretsOf" . | fromYaml) .name }}
{{- $optional := has $key $may }}
{{- /* Of the chart's own Secret we know what is in it. */}}
{{- $absent := and $optional (not $given.existingSecret) (not (index $given $key)) }}
{{- if not (or $absent (hasKey $config $key)) }}
- name: {{ include "haulyard.variable" $key }}
  valueFrom:
    secretKeyRef:
      name: {{ include "haulyard.secretName" $root }}
      key: {{ include "haulyard.variable" $key }}
      {{- if $optional }}
      optional: true
      {{- end }}
{{- end }}
{{- end }}
{{- range $key, $value := index (include "haulyard.unusedOf" . | fromYaml) .name }}
- name: {{ include "haulyard.variable" $key }}
  value: {{ $value }}
{{- end }}
{{- end }}

{{/* What must be set, all of it at once. */}}
{{- define "haulyard.demands" -}}
{{- $values := .Values }}
{{- $wrong := list }}
{{- if not $values.config.shared.s3Endpoint }}
{{- $wrong = append $wrong "config.shared.s3Endpoint: URL of the S3 API" }}
{{- end }}
{{- if not (or $values.hosts.api (index $values.config.gateway "publicApiUrl")) }}
{{- $wrong = append $wrong "hosts.api: the name under which clients reach the gateway, such as api.example.com" }}
{{- end }}
{{- if not (or $values.hosts.live (index $values.config.gateway "publicNotifierUrl")) }}
{{- $wrong = append $wrong "hosts.live: the name under which clients reach the notifier, such as live.example.com" }}
{{- end }}
{{- if and (or $values.ingress.enabled $values.httpRoute.enabled) (not (and $values.hosts.api $values.hosts.live)) }}
{{- $wrong = append $wrong "hosts.api and hosts.live: the Ingress or HTTPRoute needs both" }}
{{- end }}
{{- if and $values.httpRoute.enabled (not $values.httpRoute.parentRefs) }}
{{- $wrong = append $wrong "httpRoute.parentRefs: the Gateways that take the routes" }}
{{- end }}
{{- if and $values.ingress.enabled $values.httpRoute.enabled }}
{{- $wrong = append $wrong "ingress.enabled or httpRoute.enabled, not both" }}
{{- end }}
{{- if and $values.archiver.autoscaling.enabled $values.archiver.keda.enabled }}
{{- $wrong = append $wrong "archiver.autoscaling.enabled or archiver.keda.enabled, not both: two autoscalers would undo each other's work" }}
{{- end }}
{{- if not $values.secrets.existingSecret }}
{{- range list "postgresDsn" "redisUrl" "s3AccessKey" "s3SecretKey" "ticketSecret" }}
{{- if not (index $values.secrets .) }}
{{- $wrong = append $wrong (printf "secrets.%s, or secrets.existingSecret with %s in it" . (include "haulyard.variable" .)) }}
{{- end }}
{{- end }}
{{- if not (or $values.secrets.natsUrl $values.nats.enabled) }}
{{- $wrong = append $wrong "secrets.natsUrl, or secrets.existingSecret with HAULYARD_NATS_URL in it, or nats.enabled" }}
{{- end }}
{{- if not (or $values.secrets.jwtSecret (index $values.config.clients "jwksUrl")) }}
{{- $wrong = append $wrong "secrets.jwtSecret or config.clients.jwksUrl: with what users' tokens are signed" }}
{{- end }}
{{- end }}
{{- if $wrong }}
{{- fail (printf "\n\nThese values must be set:\n  - %s\n" (join "\n  - " $wrong)) }}
{{- end }}
{{- end }}
