package access_test

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"pavane/migrations"
	"pavane/shared/migrate"
)

// TestDocs_TablesSayWhatIsGranted compares docs/access.md with the lists and the tables of reactions.
func TestDocs_TablesSayWhatIsGranted(t *testing.T) {
	doc, err := os.ReadFile("../../docs/access.md")
	must(t, err)
	for _, table := range []string{privilegeTable(t), aclTable(t)} {
		if !strings.Contains(string(doc), table) {
			t.Errorf("docs/access.md lacks this table; put it there:\n%s", table)
		}
	}
}

func privilegeTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| of | object | the runtime role may |\n| --- | --- | --- |\n")
	for _, set := range []struct {
		of    string
		files fs.FS
	}{{"all", migrations.Kit()}, {"order-svc", migrations.Order()}, {"payment-svc", migrations.Payment()}, {"inventory-svc", migrations.Inventory()}, {"notification-svc", migrations.Notification()}} {
		list, err := migrate.Privileges(set.files)
		must(t, err)
		for i := 0; i < len(list); {
			object, verbs := list[i].Object, []string{}
			for ; i < len(list) && list[i].Object == object; i++ {
				verb, _, _ := strings.Cut(list[i].String(), " on ")
				verbs = append(verbs, verb)
			}
			fmt.Fprintf(&b, "| %s | `%s` | %s |\n", set.of, object, strings.Join(verbs, ", "))
		}
	}
	return b.String()
}

func aclTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	lists := allowed(t)
	b.WriteString("| principal | topics it writes | topics it reads | group |\n| --- | --- | --- | --- |\n")
	for _, p := range principals() {
		var writes, reads []string
		group := "–"
		slices.Sort(lists[p])
		for _, what := range lists[p] {
			what = strings.Replace(what, namespace, "", 1)
			if topic, ok := strings.CutPrefix(what, "write "); ok {
				writes = append(writes, "`"+topic+"`")
			}
			if topic, ok := strings.CutPrefix(what, "read "); ok && !strings.HasPrefix(topic, "group") {
				reads = append(reads, "`"+topic+"`")
			}
			if g, ok := strings.CutPrefix(what, "read group "); ok {
				group = "`" + g + "`"
			}
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", p, orNone(writes), orNone(reads), group)
	}
	return b.String()
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "–"
	}
	return strings.Join(names, ", ")
}
