{{- define "paquebot.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* The release's own name where it says paquebot already. */}}
{{- define "paquebot.fullname" -}}
{{- $name := include "paquebot.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "paquebot.operator" -}}
{{ include "paquebot.fullname" . }}-operator
{{- end }}

{{- define "paquebot.selector" -}}
app.kubernetes.io/name: {{ include "paquebot.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "paquebot.labels" -}}
{{ include "paquebot.selector" . }}
app.kubernetes.io/part-of: paquebot
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "paquebot.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "paquebot.operator" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{/* An image by tag or by digest. Called with a list: the image's values, the chart's version. */}}
{{- define "paquebot.image" -}}
{{- $image := index . 0 -}}
{{- $tag := default (index . 1) $image.tag -}}
{{- if hasPrefix "sha256:" $tag -}}
{{ $image.repository }}@{{ $tag }}
{{- else -}}
{{ $image.repository }}:{{ $tag }}
{{- end -}}
{{- end }}

{{/* What Pod Security "restricted" asks of a container, and a root that cannot be written. */}}
{{- define "paquebot.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "paquebot.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* "true" where the default MailServer asks for a proof of each domain's ownership. */}}
{{- define "paquebot.requireOwnership" -}}
{{- dig "dns" "requireOwnership" (default false .Values.mailServer.requireOwnership) .Values.mailServer.spec -}}
{{- end }}

{{/* The namespaces that the operator sees, as JSON: those that are named and, with the default MailServer, the release's own;
     none: all. */}}
{{- define "paquebot.watchedNamespaces" -}}
{{- $names := .Values.watchNamespaces -}}
{{- if and $names .Values.mailServer.enabled -}}
{{- $names = append $names .Release.Namespace | uniq -}}
{{- end -}}
{{- toJson $names -}}
{{- end }}

{{- define "paquebot.watched" -}}
{{- range (include "paquebot.watchedNamespaces" . | fromJsonArray) }}
- --watch-namespace={{ . }}
{{- end }}
{{- end }}
