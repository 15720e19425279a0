{{/* What clients may ask for. /metrics and /health are not among it. */}}
{{- define "haulyard.paths" -}}
gateway:
  - {path: /, pathType: Exact}
  - {path: /assets, pathType: Prefix}
  - {path: /docs, pathType: Prefix}
  - {path: /problems, pathType: Prefix}
  - {path: /v1, pathType: Prefix}
notifier:
  - {path: /docs, pathType: Prefix}
  - {path: /v1/jobs, pathType: Prefix}
  - {path: /ws/jobs, pathType: Prefix}
{{- end }}
