package gateway_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"holdfast/svc/gateway"
	"holdfast/test/edge"
)

var update = flag.Bool("update", false, "write api/openapi.yaml from the code")

const document = "../../api/openapi.yaml"

// The committed document is what the code says.
func TestOpenAPI(t *testing.T) {
	got, err := edge.New(t, gateway.Defaults(), nil).Gateway.Document()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(document, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("api/openapi.yaml is not what the code says: run go test ./svc/gateway -run OpenAPI -update, look at the difference, and make generate")
	}
}
