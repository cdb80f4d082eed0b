package catalog

import (
	"fmt"
	"io/fs"
	"strings"
)

const (
	sagaDoc  = "docs/saga.md"
	asyncDoc = "docs/asyncapi.json"
	sagaJSON = "docs/saga.json"
	readme   = "README.md"
)

// Files returns the contents of everything that is generated, by path from the
// root: whole files, and documents with their generated blocks renewed. A saga
// with problems is not written down: see [Catalogue.Check].
func Files(root fs.FS) (map[string][]byte, error) {
	c, err := Read(root)
	if err != nil {
		return nil, err
	}
	if problems := c.Check(); len(problems) > 0 {
		return nil, fmt.Errorf("the saga does not hold together:\n  %s", strings.Join(problems, "\n  "))
	}
	files := map[string][]byte{}
	for _, e := range c.Events {
		if files[contractDir+"/schema/"+e.Kind+".json"], err = plain(e.Schema, "  "); err != nil {
			return nil, fmt.Errorf("schema of %s: %w", e.Kind, err)
		}
	}
	if files[asyncDoc], err = c.AsyncAPI(); err != nil {
		return nil, fmt.Errorf("%s: %w", asyncDoc, err)
	}
	if files[sagaJSON], err = c.sagaJSON(root); err != nil {
		return nil, fmt.Errorf("%s: %w", sagaJSON, err)
	}
	err = renew(root, files, sagaDoc, block{"map", c.mapOf()}, block{"reactions", c.reactionTable()}, block{"events", c.eventTable()})
	if err != nil {
		return nil, err
	}
	variables, err := variableTable(root)
	if err != nil {
		return nil, err
	}
	return files, renew(root, files, readme, block{"configuration", variables})
}

// block is a generated part of a document that people write.
type block struct{ name, text string }

func renew(root fs.FS, files map[string][]byte, path string, blocks ...block) error {
	document, err := fs.ReadFile(root, path)
	if err != nil {
		return fmt.Errorf("a document with generated blocks is missing: %w", err)
	}
	text := string(document)
	for _, b := range blocks {
		if text, err = replaceBlock(text, b.name, b.text); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	files[path] = []byte(text)
	return nil
}
