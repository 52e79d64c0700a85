// CoreDNS with the plugins that the test cluster's DNS uses, and no others:
// the release's full set brings the clients of several clouds, which take
// longer to compile than all the rest of it.
//
// tests/cluster/lib/build.sh compiles it; manifests/dns.yaml configures it.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/file"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	// Also the order in which the plugins see a question.
	dnsserver.Directives = []string{"reload", "ready", "errors", "template", "kubernetes", "file"}
	coremain.Run()
}
