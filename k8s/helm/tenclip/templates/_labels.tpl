{{- define "tenclip.labels" -}}
app.kubernetes.io/part-of: tenclip
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
