{{/* What everything is called. */}}

{{- define "haulyard.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "haulyard.fullname" -}}
{{- $name := include "haulyard.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Which pods are whose. Never changed by an upgrade: a Deployment's selector cannot be. */}}
{{- define "haulyard.selector" -}}
app.kubernetes.io/name: {{ include "haulyard.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "haulyard.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{ include "haulyard.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: haulyard
{{- end }}

{{- define "haulyard.secretName" -}}
{{- .Values.secrets.existingSecret | default (include "haulyard.fullname" .) }}
{{- end }}

{{- define "haulyard.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (ternary (include "haulyard.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{/* With a digest the tag says nothing. */}}
{{- define "haulyard.image" -}}
{{- $image := (index .root.Values .name).image }}
{{- $repository := $image.repository }}
{{- with .root.Values.image.registry }}{{ $repository = printf "%s/%s" (trimSuffix "/" .) $repository }}{{ end }}
{{- if $image.digest }}
{{- printf "%s@%s" $repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (.root.Values.image.tag | default .root.Chart.AppVersion) }}
{{- end }}
{{- end }}
