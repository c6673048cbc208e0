{{/* Selects a part's pods: {root, part}. */}}
{{- define "dev-deps.selector" -}}
app.kubernetes.io/name: {{ .part }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "dev-deps.labels" -}}
{{ include "dev-deps.selector" . }}
app.kubernetes.io/part-of: dev-deps
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* A value of the part's Secret: what is there, or a new one: {root, part, key}. */}}
{{- define "dev-deps.password" -}}
{{- $there := lookup "v1" "Secret" .root.Release.Namespace (printf "%s-%s" .root.Release.Name .part) -}}
{{- $data := ($there | default dict).data | default dict -}}
{{- with get $data .key }}{{ . | b64dec }}{{ else }}{{ randAlphaNum 24 }}{{ end -}}
{{- end -}}

{{/* A part's Service and the beginning of its StatefulSet, up to the pod's containers: {root, part, port, user}. */}}
{{- define "dev-deps.head" -}}
{{- $name := printf "%s-%s" .root.Release.Name .part -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "dev-deps.labels" . | nindent 4 }}
spec:
  selector:
    {{- include "dev-deps.selector" . | nindent 4 }}
  ports:
    - {name: {{ .part }}, port: {{ .port }}, targetPort: {{ .part }}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "dev-deps.labels" . | nindent 4 }}
spec:
  replicas: 1
  serviceName: {{ $name }}
  selector:
    matchLabels:
      {{- include "dev-deps.selector" . | nindent 6 }}
  {{- if .root.Values.storage.enabled }}
  volumeClaimTemplates:
    - metadata:
        name: data
        labels:
          {{- include "dev-deps.selector" . | nindent 10 }}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with .root.Values.storage.className }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests: {storage: {{ .root.Values.storage.size }}}
  {{- end }}
  template:
    metadata:
      labels:
        {{- include "dev-deps.labels" . | nindent 8 }}
    spec:
      automountServiceAccountToken: false
      # Variables of Services begin as Kafka's own do.
      enableServiceLinks: false
      securityContext:
        runAsNonRoot: true
        runAsUser: {{ .user }}
        runAsGroup: {{ .user }}
        fsGroup: {{ .user }}
        seccompProfile: {type: RuntimeDefault}
      {{- if not .root.Values.storage.enabled }}
      volumes:
        - name: data
          emptyDir: {}
      {{- end }}
{{- end -}}

{{- define "dev-deps.securityContext" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
{{- end -}}
