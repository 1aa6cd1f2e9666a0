-- Up Migration
-- Contract: what releases 1 and 2 read is renamed and dropped. Only releases from 3 on can serve after this.
ALTER TABLE products RENAME COLUMN price_cents TO unit_amount;
ALTER TABLE products ADD COLUMN botany jsonb NOT NULL DEFAULT '{}';
UPDATE products SET botany = jsonb_build_object('origin', origin);
ALTER TABLE products DROP COLUMN origin;
