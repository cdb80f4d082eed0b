// Command generate writes what is generated from the source: the blocks in
// docs/saga.md and README.md, docs/asyncapi.json and the JSON Schemas of the
// events. With -check it writes nothing and fails on the first difference; with
// -bin it also asks the built services for their tables with -describe.
package main

//go:generate go run . -root ../../..

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"pavane/internal/catalog"
)

func main() {
	check := flag.Bool("check", false, "write nothing; fail when a file is not what would be written")
	bin := flag.String("bin", "", "`directory` with the built services, to be compared with the source; empty: do not ask them")
	root := flag.String("root", ".", "`directory` of the repository")
	flag.Parse()
	if err := run(context.Background(), *root, *check, *bin); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, root string, check bool, bin string) error {
	tree := os.DirFS(root)
	if bin != "" {
		if err := catalog.Compare(ctx, tree, bin); err != nil {
			return err
		}
	}
	files, err := catalog.Files(tree)
	if err != nil {
		return err
	}
	paths := make([]string, 0, len(files))
	for path := range files {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		if err := put(filepath.Join(root, path), files[path], check); err != nil {
			return err
		}
	}
	return nil
}

func put(path string, want []byte, check bool) error {
	have, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if bytes.Equal(have, want) {
		return nil
	}
	if check {
		return fmt.Errorf("%s is not what the source says; run make generate", path)
	}
	fmt.Println("wrote", path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, want, 0o644)
}
