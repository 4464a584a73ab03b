{{/* The name of a component's objects: RELEASE-COMPONENT. Takes (list $ component). */}}
{{- define "clips.name" -}}
{{- $root := index . 0 -}}
{{- printf "%s-%s" ($root.Release.Name | trunc 40 | trimSuffix "-") (index . 1) -}}
{{- end }}

{{/*
The four services: the program that an image and the `job` label of its metrics are named after; whether it has an
API; and what its readiness leaves out once it runs, because an outage of it takes every replica alike.
*/}}
{{- define "clips.services" -}}
cutter: {program: clip-cutter, api: false, scratch: true, kafka: true, exclude: ""}
registry: {program: clip-registry, api: true, scratch: false, kafka: true, exclude: kafka}
gateway: {program: clip-gateway, api: true, scratch: false, kafka: false, exclude: registry}
janitor: {program: janitor, api: false, scratch: false, kafka: true, exclude: ""}
{{- end }}

{{/* The selector of a component's pods. Takes (list $ component). */}}
{{- define "clips.selector" -}}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* The labels of a component's objects. Takes (list $ component program). */}}
{{- define "clips.labels" -}}
{{- $root := index . 0 -}}
{{ include "clips.selector" . }}
app.kubernetes.io/name: {{ index . 2 }}
app.kubernetes.io/part-of: clips
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name ($root.Chart.Version | replace "+" "_") }}
{{- end }}

{{/* An image. Takes (list $ program). */}}
{{- define "clips.image" -}}
{{- $image := (index . 0).Values.image -}}
{{- $path := compact (list $image.registry $image.repository (index . 1)) | join "/" -}}
{{- printf "%s:%s" $path ($image.tag | default (index . 0).Chart.AppVersion) -}}
{{- end }}

{{/* The Secret of a component. Takes (list $ component). */}}
{{- define "clips.secret" -}}
{{- (index (index . 0).Values (index . 1)).secret | default (include "clips.name" .) -}}
{{- end }}

{{/* The ServiceAccount of a component. Takes (list $ component). */}}
{{- define "clips.serviceAccount" -}}
{{- $account := (index (index . 0).Values (index . 1)).serviceAccount -}}
{{- $account.name | default (ternary (include "clips.name" .) "default" $account.create) -}}
{{- end }}

{{/* The security settings of every pod of the chart. Takes $. */}}
{{- define "clips.pod" -}}
automountServiceAccountToken: false
# Variables for each Service of the namespace could be taken for settings.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The security settings of every container. */}}
{{- define "clips.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* The mounts of every container, and their volumes. Takes $. */}}
{{- define "clips.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .Values.kafka.caSecret }}
- {name: kafka-ca, mountPath: /etc/clips/kafka, readOnly: true}
{{- end }}
{{- end }}

{{- define "clips.volumes" -}}
- name: tmp
  emptyDir: {sizeLimit: 64Mi}
{{- if .Values.kafka.caSecret }}
- name: kafka-ca
  secret:
    secretName: {{ .Values.kafka.caSecret }}
    items: [{key: {{ .Values.kafka.caKey }}, path: ca.crt}]
{{- end }}
{{- end }}

{{/* The scratch disk in MiB: a copy and a re-encode at the same time, and the indexes of VODs. Takes $. */}}
{{- define "clips.scratchMebibytes" -}}
{{- $environment := .Values.cutter.environment -}}
{{- add (mul 4 (atoi $environment.MAX_CLIP_MEBIBYTES)) (atoi $environment.INDEX_CACHE_MEBIBYTES) -}}
{{- end }}

{{/* The port of a URL or a host:port; 0 without a port. */}}
{{- define "clips.port" -}}
{{- $found := regexFind ":[0-9]+(/|$)" . | trimPrefix ":" | trimSuffix "/" -}}
{{- if $found }}{{ $found }}{{ else if hasPrefix "http://" . }}80{{ else }}443{{ end -}}
{{- end }}
