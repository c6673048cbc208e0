{{/* The name that begins all others. Workers' names begin with it too: 40 characters leave room for their roles. */}}
{{- define "tipstaff.fullname" -}}
{{- $name := .Values.fullnameOverride -}}
{{- if not $name -}}
{{- $name = contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) -}}
{{- end -}}
{{- $name = $name | trunc 40 | trimSuffix "-" -}}
{{- if not (regexMatch "^[a-z][a-z0-9-]*$" $name) -}}
{{- fail (printf "%q cannot begin the names of objects: set fullnameOverride to lower-case letters, digits and -, a letter first" $name) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- define "tipstaff.operatorName" -}}
{{ include "tipstaff.fullname" . }}-operator
{{- end -}}

{{- define "tipstaff.workerName" -}}
{{ include "tipstaff.fullname" . }}-worker
{{- end -}}

{{/* The roles whose pods may read Secrets, each by an account of its own, separated by commas; empty: none. */}}
{{- define "tipstaff.readersOfSecrets" -}}
{{- $readers := list -}}
{{- if and .Values.workers.enabled .Values.workers.secrets.read -}}
{{- range list "crawl" "deliver" -}}
{{- if get $.Values.workers.roles . -}}
{{- $readers = append $readers . -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- join "," $readers -}}
{{- end -}}

{{/* Selects the operator's pods. A Deployment's selector cannot be changed: it has what tells its pods from others, and no more. */}}
{{- define "tipstaff.operatorSelector" -}}
app.kubernetes.io/name: tipstaff-operator
app.kubernetes.io/instance: {{ include "tipstaff.fullname" . }}
{{- end -}}

{{/* Selects the workers' pods, of all roles; the operator makes them with these labels. */}}
{{- define "tipstaff.workerSelector" -}}
app.kubernetes.io/name: tipstaff-worker
app.kubernetes.io/instance: {{ include "tipstaff.fullname" . }}
{{- end -}}

{{/* Labels of every object. `app.kubernetes.io/name` is the program's, where the object belongs to one. */}}
{{- define "tipstaff.labels" -}}
app.kubernetes.io/name: {{ .name }}
app.kubernetes.io/instance: {{ include "tipstaff.fullname" .root }}
app.kubernetes.io/part-of: tipstaff
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tipstaff.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The namespace whose objects are in force; empty: all. */}}
{{- define "tipstaff.watchNamespace" -}}
{{- with .Values.watchNamespaces }}{{ first . }}{{ end -}}
{{- end -}}

{{/* What must be given and is not, all at once. */}}
{{- define "tipstaff.requirements" -}}
{{- $missing := list -}}
{{- if not .Values.database.existingSecret -}}
{{- $missing = append $missing "database.existingSecret: the Secret with the database's URL" -}}
{{- end -}}
{{- if not .Values.kafka.brokers -}}
{{- $missing = append $missing "kafka.brokers: Kafka's bootstrap servers, host:port" -}}
{{- end -}}
{{- if and .Values.kafka.sasl.mechanism (not .Values.kafka.sasl.existingSecret) -}}
{{- $missing = append $missing "kafka.sasl.existingSecret: the Secret with user and password, since kafka.sasl.mechanism is set" -}}
{{- end -}}
{{- if .Values.workers.enabled -}}
{{- if not .Values.s3.bucket -}}
{{- $missing = append $missing "s3.bucket: the bucket for raw bytes" -}}
{{- end -}}
{{- if not .Values.s3.existingSecret -}}
{{- $missing = append $missing "s3.existingSecret: the Secret with the object store's access key" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.email.existingSecret (not .Values.email.from) -}}
{{- $missing = append $missing "email.from: the sender, since email.existingSecret is set" -}}
{{- end -}}
{{- if and .Values.tracing.existingSecret (not .Values.tracing.endpoint) -}}
{{- $missing = append $missing "tracing.endpoint: the collector's URL, since tracing.existingSecret is set" -}}
{{- end -}}
{{- if and .Values.email.from (not .Values.email.existingSecret) -}}
{{- $missing = append $missing "email.existingSecret: the Secret with the mail server's URL, since email.from is set" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (not .Values.networkPolicy.services) -}}
{{- $missing = append $missing "networkPolicy.services: where Kafka, PostgreSQL and the object store are, since networkPolicy.enabled is set" -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled (include "tipstaff.readersOfSecrets" .) (not .Values.networkPolicy.apiServer) -}}
{{- $missing = append $missing "networkPolicy.apiServer: where the API server is, since networkPolicy.enabled and workers.secrets.read are set; or set workers.secrets.read to false" -}}
{{- end -}}
{{- if $missing -}}
{{- fail (printf "\n\nThese values are missing:\n  - %s\n\nThe chart's README.md says what each is. To try Tipstaff without Kafka, PostgreSQL and S3 of your own, install charts/dev-deps first." (join "\n  - " $missing)) -}}
{{- end -}}
{{- if and .Values.kafka.sasl.existingSecret (not .Values.kafka.sasl.mechanism) -}}
{{- fail "kafka.sasl.existingSecret is set, and kafka.sasl.mechanism is not: name PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512" -}}
{{- end -}}
{{- if and (or .Values.kafka.tls.caSecret .Values.kafka.tls.clientCertificateSecret) (not .Values.kafka.tls.enabled) -}}
{{- fail "kafka.tls has certificates and is not enabled: set kafka.tls.enabled to true" -}}
{{- end -}}
{{- end -}}

{{/* kafka.properties with what follows from kafka.tls and kafka.sasl, as the programs read it: NAME=VALUE;NAME=VALUE */}}
{{- define "tipstaff.kafkaProperties" -}}
{{- $kafka := .Values.kafka -}}
{{- $all := dict -}}
{{- if $kafka.tls.enabled -}}
{{- $_ := set $all "security.protocol" (ternary "SASL_SSL" "SSL" (ne $kafka.sasl.mechanism "")) -}}
{{- if $kafka.tls.caSecret -}}
{{- $_ := set $all "ssl.ca.location" (printf "/etc/tipstaff/kafka-ca/%s" $kafka.tls.caKey) -}}
{{- end -}}
{{- if $kafka.tls.clientCertificateSecret -}}
{{- $_ := set $all "ssl.certificate.location" "/etc/tipstaff/kafka-client/tls.crt" -}}
{{- $_ := set $all "ssl.key.location" "/etc/tipstaff/kafka-client/tls.key" -}}
{{- end -}}
{{- else if $kafka.sasl.mechanism -}}
{{- $_ := set $all "security.protocol" "SASL_PLAINTEXT" -}}
{{- end -}}
{{- if $kafka.sasl.mechanism -}}
{{- $_ := set $all "sasl.mechanism" $kafka.sasl.mechanism -}}
{{- end -}}
{{- range $name, $value := $kafka.properties -}}
{{- if contains "password" $name -}}
{{- fail (printf "kafka.properties.%s would show a secret to whoever may read the release: give it by kafka.sasl.existingSecret or kafka.tls" $name) -}}
{{- end -}}
{{- $_ := set $all $name (toString $value) -}}
{{- end -}}
{{- $pairs := list -}}
{{- range $name, $value := $all -}}
{{- if or (contains ";" $name) (contains ";" $value) -}}
{{- fail (printf "kafka.properties.%s has a semicolon, which separates properties" $name) -}}
{{- end -}}
{{- $pairs = append $pairs (printf "%s=%s" $name $value) -}}
{{- end -}}
{{- join ";" $pairs -}}
{{- end -}}

{{- define "tipstaff.env.log" -}}
- name: TIPSTAFF_LOG_FORMAT
  value: {{ .Values.log.format }}
- name: RUST_LOG
  value: {{ .Values.log.level | quote }}
{{- end -}}

{{/* The collector of traces: operator, workers. */}}
{{- define "tipstaff.env.tracing" -}}
{{- with .Values.tracing -}}
{{- if .endpoint -}}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
{{- if .existingSecret }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret | quote }}, key: {{ .headersKey | quote }}}
{{- end }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The catalog: operator, migration, workers. */}}
{{- define "tipstaff.env.database" -}}
{{- with .Values.database -}}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret | quote }}, key: {{ .urlKey | quote }}}
- name: TIPSTAFF_DATABASE_CONNECTIONS
  value: {{ .connections | quote }}
{{- with .tls.mode | default (ternary "verify-full" "" (ne .tls.caSecret "")) }}
- name: PGSSLMODE
  value: {{ . }}
{{- end }}
{{- if .tls.caSecret }}
- name: PGSSLROOTCERT
  value: {{ printf "/etc/tipstaff/database-ca/%s" .tls.caKey | quote }}
{{- end }}
{{- if .tls.clientCertificateSecret }}
- name: PGSSLCERT
  value: /etc/tipstaff/database-client/tls.crt
- name: PGSSLKEY
  value: /etc/tipstaff/database-client/tls.key
{{- end }}
{{- end -}}
{{- end -}}

{{/* Kafka: operator, workers. */}}
{{- define "tipstaff.env.kafka" -}}
- name: KAFKA_BROKERS
  value: {{ .Values.kafka.brokers | quote }}
{{- with include "tipstaff.kafkaProperties" . }}
- name: KAFKA_PROPERTIES
  value: {{ . | quote }}
{{- end }}
{{- with .Values.kafka.sasl }}
{{- if .mechanism }}
- name: KAFKA_SASL_USERNAME
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret | quote }}, key: {{ .usernameKey | quote }}}
- name: KAFKA_SASL_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret | quote }}, key: {{ .passwordKey | quote }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* The object store: workers. */}}
{{- define "tipstaff.env.s3" -}}
{{- with .Values.s3 -}}
- name: S3_BUCKET
  value: {{ .bucket | quote }}
{{- with .endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
- name: AWS_REGION
  value: {{ .region | quote }}
- name: S3_VIRTUAL_HOST
  value: {{ .virtualHost | quote }}
{{- if .tls.caSecret }}
- name: AWS_CA_BUNDLE
  value: {{ printf "/etc/tipstaff/s3-ca/%s" .tls.caKey | quote }}
{{- end }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret | quote }}, key: {{ .accessKeyIDKey | quote }}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret | quote }}, key: {{ .secretAccessKeyKey | quote }}}
{{- end -}}
{{- end -}}

{{/* The mail server: workers of the deliver role. */}}
{{- define "tipstaff.env.email" -}}
{{- with .Values.email -}}
{{- if .existingSecret -}}
- name: TIPSTAFF_SMTP_URL
  valueFrom:
    secretKeyRef: {name: {{ .existingSecret | quote }}, key: {{ .urlKey | quote }}}
- name: TIPSTAFF_EMAIL_FROM
  value: {{ .from | quote }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Certificates' volumes by name: {name: Secret}. */}}
{{- define "tipstaff.certificates.database" -}}
{{- with .Values.database.tls.caSecret }}
database-ca: {{ . }}
{{- end }}
{{- with .Values.database.tls.clientCertificateSecret }}
database-client: {{ . }}
{{- end }}
{{- end -}}

{{- define "tipstaff.certificates.kafka" -}}
{{- with .Values.kafka.tls.caSecret }}
kafka-ca: {{ . }}
{{- end }}
{{- with .Values.kafka.tls.clientCertificateSecret }}
kafka-client: {{ . }}
{{- end }}
{{- end -}}

{{- define "tipstaff.certificates" -}}
{{- printf "%s\n%s" (include "tipstaff.certificates.database" .) (include "tipstaff.certificates.kafka" .) | trim -}}
{{- end -}}

{{- define "tipstaff.certificates.workers" -}}
{{- include "tipstaff.certificates" . -}}
{{- with .Values.s3.tls.caSecret }}
s3-ca: {{ . }}
{{- end }}
{{- end -}}

{{/* Volumes for a text of certificates, as above. */}}
{{- define "tipstaff.volumes" -}}
{{- range $name, $secret := fromYaml . }}
- name: {{ $name }}
  secret: {secretName: {{ $secret | quote }}}
{{- end }}
{{- end -}}

{{- define "tipstaff.volumeMounts" -}}
{{- range $name, $_ := fromYaml . }}
- {name: {{ $name }}, mountPath: /etc/tipstaff/{{ $name }}, readOnly: true}
{{- end }}
{{- end -}}

{{/* The `restricted` Pod Security profile, and a read-only root. */}}
{{- define "tipstaff.podSecurityContext" -}}
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "tipstaff.securityContext" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
runAsNonRoot: true
{{- end -}}

{{/* The file that says which workers to run: docs/scaling.md. */}}
{{- define "tipstaff.workersFile" -}}
instance: {{ include "tipstaff.fullname" . }}
image: {{ include "tipstaff.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
serviceAccountName: {{ include "tipstaff.workerName" . }}
env:
  {{- include "tipstaff.env.log" . | nindent 2 }}
  {{- with include "tipstaff.env.tracing" . }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- include "tipstaff.env.database" . | nindent 2 }}
  {{- include "tipstaff.env.kafka" . | nindent 2 }}
  {{- include "tipstaff.env.s3" . | nindent 2 }}
  {{- with .Values.workers.allowCIDRs }}
  - name: TIPSTAFF_ALLOW_CIDRS
    value: {{ join "," . | quote }}
  {{- end }}
  {{- with .Values.workers.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- $certificates := include "tipstaff.certificates.workers" . }}
{{- with concat (include "tipstaff.volumes" $certificates | fromYamlArray) .Values.workers.volumes }}
volumes:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with concat (include "tipstaff.volumeMounts" $certificates | fromYamlArray) .Values.workers.volumeMounts }}
volumeMounts:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.workers }}
resources:
  {{- toYaml .resources | nindent 2 }}
nodeSelector:
  {{- toYaml .nodeSelector | nindent 2 }}
tolerations:
  {{- toYaml .tolerations | nindent 2 }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
podLabels:
  {{- mergeOverwrite (deepCopy $.Values.commonLabels) .podLabels | toYaml | nindent 2 }}
podAnnotations:
  {{- toYaml .podAnnotations | nindent 2 }}
spoolSizeLimit: {{ .spoolSizeLimit | quote }}
drainSeconds: {{ int .drainSeconds }}
stabilisationSeconds: {{ int .stabilisationSeconds }}
roles:
  {{- $readers := include "tipstaff.readersOfSecrets" $ | splitList "," }}
  {{- $email := include "tipstaff.env.email" $ | fromYamlArray }}
  {{- $roles := dict }}
  {{- range $role, $settings := .roles }}
  {{- if $settings }}
  {{- /* Helm would write a large number as 1e+06. */}}
  {{- $numbers := dict "min" (int $settings.min) "max" (int $settings.max) "targetLag" (int64 $settings.targetLag) }}
  {{- $own := dict }}
  {{- if has $role $readers }}
  {{- $own = dict "serviceAccountName" (printf "%s-%s" (include "tipstaff.workerName" $) $role) "automountServiceAccountToken" true }}
  {{- end }}
  {{- if and (eq $role "deliver") $email }}
  {{- $_ := set $own "env" (concat $email ($settings.env | default list)) }}
  {{- end }}
  {{- $_ := set $roles $role (mergeOverwrite (deepCopy $settings) $numbers $own) }}
  {{- end }}
  {{- end }}
  {{- toYaml $roles | nindent 2 }}
{{- end }}
{{- end -}}
