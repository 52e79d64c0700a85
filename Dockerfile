# The two images, from binaries that are already built: static, so there is
# nothing else in them but the certificates of public authorities, and nothing
# is run to build them. `make images` does it all; by hand, after
# `scripts/images binaries`, with docker, podman or buildah:
#
#   docker build --file Dockerfile --target operator --tag paquebot-operator dist/image
#   docker build --file Dockerfile --target server   --tag paquebot-server   dist/image
#
# The user is numeric, so that Kubernetes can see that it is not root. Both
# run with a read-only root: what they write goes to mounted volumes.

FROM scratch AS operator
LABEL org.opencontainers.image.title="paquebot-operator" \
      org.opencontainers.image.description="The operator of Paquebot, mail for Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY paquebot-operator /usr/bin/
ENV PATH=/usr/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["/usr/bin/paquebot-operator"]

FROM scratch AS server
LABEL org.opencontainers.image.title="paquebot-server" \
      org.opencontainers.image.description="The SMTP and POP3 server of Paquebot, mail for Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY paquebot-server /usr/bin/
ENV PATH=/usr/bin SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
USER 65532:65532
ENTRYPOINT ["/usr/bin/paquebot-server"]
