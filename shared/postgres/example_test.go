package postgres_test

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"pavane/shared/pgtest"
	"pavane/shared/postgres"
)

func ExampleOpen() {
	t, end := pgtest.ForExample()
	defer end()
	db, err := postgres.Open(postgres.Config{URL: pgtest.URL(t), Name: "shop", MaxConns: 2})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer db.Close()
	fmt.Println(db.Ping(context.Background()))

	_, err = postgres.Open(postgres.Config{URL: "localhost:5432"})
	fmt.Println(err != nil)
	// Output:
	// <nil>
	// true
}

func ExampleDB_InTx() {
	t, end := pgtest.ForExample()
	defer end()
	db := pgtest.Schema(t)

	ctx := context.Background()
	err := db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		postgres.OnCommit(ctx, func() { fmt.Println("committed") })
		_, err := tx.ExecContext(ctx, `create table colours as select unnest($1::text[]) as name`, postgres.Array([]string{"red", "blue"}))
		return err
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = db.InTx(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		postgres.OnCommit(ctx, func() { fmt.Println("never printed") })
		if _, err := tx.ExecContext(ctx, `delete from colours`); err != nil {
			return err
		}
		return fmt.Errorf("changed my mind")
	})
	fmt.Println(err)

	var n int
	err = db.Read(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		return tx.GetContext(ctx, &n, `select count(*) from colours`)
	})
	fmt.Println(n, "colours,", err)
	// Output:
	// committed
	// changed my mind
	// 2 colours, <nil>
}

func ExampleDB_Read() {
	t, end := pgtest.ForExample()
	defer end()
	err := pgtest.Schema(t).Read(context.Background(), func(ctx context.Context, tx *sqlx.Tx) error {
		_, err := tx.ExecContext(ctx, `create table colours (name text)`)
		return err
	})
	fmt.Println(err)
	// Output: database: statement: pq: cannot execute CREATE TABLE in a read-only transaction (25006)
}

func ExampleUnique() {
	t, end := pgtest.ForExample()
	defer end()
	err := pgtest.Schema(t).InTx(context.Background(), func(ctx context.Context, tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, `create table colours (name text constraint one_of_each unique)`); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `insert into colours (name) values ('red'), ('red')`)
		return err
	})
	fmt.Println(postgres.Unique(err), postgres.Constraint(err), postgres.Retryable(err))
	// Output: true one_of_each false
}
