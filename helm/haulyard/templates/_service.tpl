{{/* One service: its Deployment, Service, budget and autoscaler. */}}

{{- define "haulyard.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ int .Values.podSecurity.runAsUser }}
runAsGroup: {{ int .Values.podSecurity.runAsGroup }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "haulyard.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Sleep, farewell to clients, running work, ten seconds to leave the servers (docs/reliability.md), and five spare. */}}
{{- define "haulyard.grace" -}}
{{- $config := include "haulyard.config" . | fromYaml }}
{{- $seconds := add (int (index .root.Values .name).preStopSeconds) (ceil (float64 (dig "shutdownGrace" 25 $config))) 15 }}
{{- if eq .name "notifier" }}{{ $seconds = add $seconds (ceil (float64 (dig "drain" 5 $config))) }}{{ end }}
{{- max 40 $seconds }}
{{- end }}

{{- define "haulyard.probes" -}}
{{- /* Nothing answers until a service has what it needs to start: that may take as long as NATS or PostgreSQL is away. */}}
startupProbe:
  httpGet: {path: /health/live, port: http}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: {{ max 1 (div (int (index .root.Values .name).startupSeconds) 5) }}
{{- /* Asks nobody else: a server that is away is no reason to start anew. */}}
livenessProbe:
  httpGet: {path: /health/live, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- /* Asks what the service cannot serve without; each answer may take two seconds. */}}
readinessProbe:
  httpGet: {path: /health/ready, port: http}
  periodSeconds: 5
  timeoutSeconds: 4
  failureThreshold: 2
{{- end }}

{{- define "haulyard.deployment" -}}
{{- $root := .root }}
{{- $name := .name }}
{{- $service := index $root.Values $name }}
{{- $config := include "haulyard.config" . | fromYaml }}
{{- $scaled := or $service.autoscaling.enabled (dig "keda" "enabled" false $service) }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "haulyard.fullname" $root }}-{{ $name }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "haulyard.labels" . | nindent 4 }}
spec:
  {{- if not $scaled }}
  replicas: {{ int $service.replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  progressDeadlineSeconds: {{ add 300 (int $service.startupSeconds) }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxUnavailable: 0
      maxSurge: 25%
  selector:
    matchLabels:
      {{- include "haulyard.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "haulyard.labels" . | nindent 8 }}
        {{- with $service.podLabels }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      annotations:
        {{- /* What is read from the environment is read once: new settings take new pods. */}}
        checksum/config: {{ include "haulyard.variables" . | sha256sum }}
        {{- if not $root.Values.secrets.existingSecret }}
        checksum/secret: {{ $root.Values.secrets | toJson | sha256sum }}
        {{- end }}
        {{- with $service.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "haulyard.serviceAccountName" $root }}
      automountServiceAccountToken: false
      {{- /* Variables of Services begin with their names: HAULYARD_…, like ours. */}}
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ include "haulyard.grace" . }}
      securityContext:
        {{- include "haulyard.podSecurity" $root | nindent 8 }}
      {{- with $root.Values.image.pullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $service.priorityClassName }}
      priorityClassName: {{ . }}
      {{- end }}
      {{- with $service.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $service.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $service.affinity }}
      affinity:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if $root.Values.topologySpread.enabled }}
      topologySpreadConstraints:
        {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: {{ $root.Values.topologySpread.whenUnsatisfiable }}
          labelSelector:
            matchLabels:
              {{- include "haulyard.selector" $ | nindent 14 }}
          {{- /* Each version is spread by itself: during a rollout the old pods do not count. */}}
          matchLabelKeys: [pod-template-hash]
        {{- end }}
      {{- end }}
      containers:
        - name: {{ $name }}
          image: {{ include "haulyard.image" . | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          ports:
            - name: http
              containerPort: {{ int (dig "httpPort" 8080 $config) }}
              protocol: TCP
          envFrom:
            - configMapRef:
                name: {{ include "haulyard.fullname" $root }}-{{ $name }}
          env:
            {{- include "haulyard.env" . | trim | nindent 12 }}
            {{- with $service.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          {{- include "haulyard.probes" . | nindent 10 }}
          {{- if $service.preStopSeconds }}
          lifecycle:
            preStop:
              sleep:
                seconds: {{ int $service.preStopSeconds }}
          {{- end }}
          resources:
            {{- toYaml $service.resources | nindent 12 }}
          securityContext:
            {{- include "haulyard.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            - name: tmp
              mountPath: /tmp
            {{- with $service.extraVolumeMounts }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir:
            sizeLimit: 64Mi
        {{- with $service.extraVolumes }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
{{- end }}

{{- define "haulyard.kubeService" -}}
{{- $service := (index .root.Values .name).service }}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "haulyard.fullname" .root }}-{{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "haulyard.labels" . | nindent 4 }}
  {{- with $service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  type: {{ $service.type }}
  ports:
    - name: http
      port: {{ int $service.port }}
      targetPort: http
      protocol: TCP
  selector:
    {{- include "haulyard.selector" . | nindent 4 }}
{{- end }}

{{- define "haulyard.budget" -}}
{{- $budget := (index .root.Values .name).podDisruptionBudget }}
{{- if $budget.enabled }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "haulyard.fullname" .root }}-{{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "haulyard.labels" . | nindent 4 }}
spec:
  maxUnavailable: {{ include "haulyard.value" $budget.maxUnavailable }}
  {{- /* A pod that is not ready protects nobody, and must not keep a node from being drained. */}}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "haulyard.selector" . | nindent 6 }}
{{- end }}
{{- end }}

{{/* Up at once, down slowly: whom a pod serves must go on elsewhere. */}}
{{- define "haulyard.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - {type: Percent, value: 100, periodSeconds: 30}
    - {type: Pods, value: 4, periodSeconds: 30}
scaleDown:
  stabilizationWindowSeconds: 300
  policies:
    - {type: Percent, value: 25, periodSeconds: 60}
    - {type: Pods, value: 1, periodSeconds: 60}
{{- end }}

{{- define "haulyard.autoscaler" -}}
{{- $scaling := (index .root.Values .name).autoscaling }}
{{- if $scaling.enabled }}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: {{ include "haulyard.fullname" .root }}-{{ .name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "haulyard.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: {{ include "haulyard.fullname" .root }}-{{ .name }}
  minReplicas: {{ int $scaling.minReplicas }}
  maxReplicas: {{ int $scaling.maxReplicas }}
  metrics:
    - type: Resource
      resource:
        name: cpu
        target:
          type: Utilization
          averageUtilization: {{ int $scaling.targetCPU }}
  behavior:
    {{- include "haulyard.behavior" . | nindent 4 }}
{{- end }}
{{- end }}

{{- define "haulyard.service" -}}
{{ include "haulyard.deployment" . }}
---
{{ include "haulyard.kubeService" . }}
---
{{ include "haulyard.budget" . }}
---
{{ include "haulyard.autoscaler" . }}
{{- end }}
