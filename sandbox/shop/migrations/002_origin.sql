-- Up Migration
-- Additive: release 1 neither reads nor writes the new column, so it serves on this level too.
ALTER TABLE products ADD COLUMN origin text NOT NULL DEFAULT 'Drôme';
UPDATE products SET origin = 'Baronnies' WHERE slug = 'tilleul-des-baronnies';
UPDATE products SET origin = 'Provence' WHERE slug IN ('thym-de-provence', 'baume-calendula');
CREATE INDEX products_by_origin ON products (origin);
