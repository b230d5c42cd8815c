{{- /* The settings, with what other values say of them; YAML. */ -}}
{{- define "tenclip.settings" -}}
{{- $settings := deepCopy .Values.settings -}}
{{- if and .Values.gpu.enabled (eq $settings.TENCLIP_RUNTIME "auto") -}}
{{- $_ := set $settings "TENCLIP_RUNTIME" "gpu" -}}
{{- end -}}
{{- with .Values.browserNames -}}
{{- $_ := set $settings "TENCLIP_BROWSER_NAMES" (join "," .) -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end }}

{{- define "tenclip.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- if .Values.gpu.enabled -}}
{{- $_ := set $resources.requests .Values.gpu.resource "1" -}}
{{- $_ := set $resources.limits .Values.gpu.resource "1" -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end }}

{{- define "tenclip.labels" -}}
app.kubernetes.io/part-of: tenclip
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
