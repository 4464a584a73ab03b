{{/* A variable from a Secret. Takes (list secret name). */}}
{{- define "clips.fromSecret" -}}
- name: {{ index . 1 }}
  valueFrom: {secretKeyRef: {name: {{ index . 0 }}, key: {{ index . 1 }}}}
{{- end }}

{{/* The settings in `environment`: those of all services, and those of one. Takes (list $ component). */}}
{{- define "clips.env.own" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- range $name, $value := merge (deepCopy (index $root.Values $component).environment) $root.Values.environment }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{/* The settings of every service. Takes $. */}}
{{- define "clips.env.service" -}}
- {name: OPERATIONS_PORT, value: "8081"}
- {name: SHUTDOWN_GRACE_SECONDS, value: {{ .Values.shutdownGraceSeconds | quote }}}
{{- end }}

{{- define "clips.env.api" -}}
- {name: HTTP_PORT, value: "8080"}
{{- end }}

{{/* The connection to Kafka, as a user. Takes (list $ component). */}}
{{- define "clips.env.kafka" -}}
{{- $root := index . 0 -}}
{{- $kafka := $root.Values.kafka -}}
- {name: KAFKA_BOOTSTRAP_SERVERS, value: {{ $kafka.bootstrapServers | quote }}}
- {name: KAFKA_SECURITY_PROTOCOL, value: {{ $kafka.securityProtocol }}}
{{- if hasPrefix "SASL" $kafka.securityProtocol }}
- {name: KAFKA_SASL_MECHANISM, value: {{ $kafka.saslMechanism }}}
- {name: KAFKA_SASL_USERNAME, value: {{ (index $root.Values (index . 1)).kafkaUser | quote }}}
{{ include "clips.fromSecret" (list (include "clips.secret" .) "KAFKA_SASL_PASSWORD") }}
{{- end }}
{{- if $kafka.caSecret }}
- {name: KAFKA_SSL_CA_FILE, value: /etc/clips/kafka/ca.crt}
{{- end }}
{{- end }}

{{/* The clips' bucket, by keys or by workload identity. Takes (list $ component). */}}
{{- define "clips.env.storage" -}}
{{- $storage := (index . 0).Values.storage -}}
- {name: FREE_STORAGE_BUCKET, value: {{ $storage.bucket | quote }}}
- {name: FREE_STORAGE_REGION, value: {{ $storage.region | quote }}}
- {name: FREE_STORAGE_ADDRESSING, value: {{ $storage.addressing }}}
{{- with $storage.endpoint }}
- {name: FREE_STORAGE_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- with $storage.publicEndpoint }}
- {name: FREE_STORAGE_PUBLIC_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- if $storage.keysFromSecret }}
{{ include "clips.fromSecret" (list (include "clips.secret" .) "FREE_STORAGE_ACCESS_KEY") }}
{{ include "clips.fromSecret" (list (include "clips.secret" .) "FREE_STORAGE_SECRET_KEY") }}
{{- end }}
{{- end }}

{{/* The registry's API, for its clients. Takes (list $ component). */}}
{{- define "clips.env.registryClient" -}}
- {name: REGISTRY_URL, value: "http://{{ include "clips.name" (list (index . 0) "registry") }}:8080"}
{{ include "clips.fromSecret" (list (include "clips.secret" .) "REGISTRY_TOKEN") }}
{{- end }}

{{- define "clips.env.cutter" -}}
{{- $cutter := .Values.cutter -}}
{{ include "clips.env.service" . }}
{{ include "clips.env.kafka" (list . "cutter") }}
{{ include "clips.env.storage" (list . "cutter") }}
{{- if $cutter.sourcesFromSecret }}
{{ include "clips.fromSecret" (list (include "clips.secret" (list . "cutter")) "SOURCE_STORAGE_PROFILES") }}
{{- else }}
- {name: SOURCE_STORAGE_PROFILES, value: {{ $cutter.sources | toJson | quote }}}
{{- end }}
- {name: SCRATCH_DIR, value: /scratch/clips}
{{- end }}

{{- define "clips.env.registry" -}}
{{- $secret := include "clips.secret" (list . "registry") -}}
{{ include "clips.env.service" . }}
{{ include "clips.env.api" . }}
{{ include "clips.env.kafka" (list . "registry") }}
- {name: FREE_STORAGE_BUCKET, value: {{ .Values.storage.bucket | quote }}}
{{- range list "DATABASE_URL" "REGISTRY_GATEWAY_TOKEN" "REGISTRY_JANITOR_TOKEN" }}
{{ include "clips.fromSecret" (list $secret .) }}
{{- end }}
{{- end }}

{{- define "clips.env.gateway" -}}
{{- $signIn := .Values.gateway.signIn -}}
{{ include "clips.env.service" . }}
{{ include "clips.env.api" . }}
{{ include "clips.env.registryClient" (list . "gateway") }}
{{ include "clips.env.storage" (list . "gateway") }}
- {name: PUBLIC_URL, value: {{ .Values.gateway.publicUrl | quote }}}
- {name: JWT_ALGORITHM, value: {{ $signIn.algorithm }}}
- {name: JWT_ISSUER, value: {{ $signIn.issuer | quote }}}
- {name: JWT_AUDIENCE, value: {{ $signIn.audience | quote }}}
{{- if eq $signIn.algorithm "HS256" }}
{{ include "clips.fromSecret" (list (include "clips.secret" (list . "gateway")) "JWT_SECRET") }}
{{- else }}
- {name: JWT_JWKS_URL, value: {{ $signIn.jwksUrl | quote }}}
{{- end }}
{{- end }}

{{- define "clips.env.janitor" -}}
{{ include "clips.env.service" . }}
{{ include "clips.env.kafka" (list . "janitor") }}
{{ include "clips.env.registryClient" (list . "janitor") }}
{{ include "clips.env.storage" (list . "janitor") }}
{{- end }}
