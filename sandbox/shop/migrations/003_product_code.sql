-- Up Migration
-- Release 6 is the one whose migration fails: every product gets the same code and the constraint after it cannot hold.
-- The transaction takes the column away again; the database stays at level 2.
ALTER TABLE products ADD COLUMN code text NOT NULL DEFAULT 'HERB';
ALTER TABLE products ADD CONSTRAINT products_code_is_unique UNIQUE (code);
