package migrate_test

import (
	"context"
	"fmt"
	"testing/fstest"

	"pavane/shared/migrate"
	"pavane/shared/pgtest"
)

func ExampleUp() {
	t, end := pgtest.ForExample()
	defer end()
	db := pgtest.Schema(t)
	// A service embeds its files: //go:embed sql/*.sql
	files := fstest.MapFS{
		"00001_colours.sql": {Data: []byte("-- +goose Up\ncreate table colours (name text not null);\n")},
		"00002_red.sql":     {Data: []byte("-- +goose Up\ninsert into colours (name) values ('red');\n")},
	}
	ctx := context.Background()
	for range 2 { // the second time there is nothing to do
		if err := migrate.Up(ctx, db.SQL(), files, "migrations_paint"); err != nil {
			fmt.Println(err)
			return
		}
	}
	var name string
	err := db.SQL().QueryRowContext(ctx, `select name from colours`).Scan(&name)
	fmt.Println(name, err)
	// Output: red <nil>
}
