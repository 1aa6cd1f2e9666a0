-- Up Migration
CREATE TABLE products (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug        text NOT NULL UNIQUE,
    name        text NOT NULL,
    description text NOT NULL,
    price_cents integer NOT NULL CHECK (price_cents > 0),
    stock       integer NOT NULL CHECK (stock >= 0)
);

CREATE TABLE users (
    id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email         text NOT NULL UNIQUE,
    password_hash text NOT NULL,
    role          text NOT NULL DEFAULT 'customer' CHECK (role IN ('customer', 'admin')),
    verified_at   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE orders (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id     integer NOT NULL REFERENCES users ON DELETE CASCADE,
    status      text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'paid', 'failed')),
    total_cents integer NOT NULL CHECK (total_cents > 0),
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_by_user ON orders (user_id, created_at DESC);

CREATE TABLE order_items (
    order_id         integer NOT NULL REFERENCES orders ON DELETE CASCADE,
    product_id       integer NOT NULL REFERENCES products,
    quantity         integer NOT NULL CHECK (quantity > 0),
    unit_price_cents integer NOT NULL,
    PRIMARY KEY (order_id, product_id)
);

-- Stripe delivers an event at least once: its identifier, kept here, makes handling it twice harmless.
CREATE TABLE payment_events (
    id          text PRIMARY KEY,
    type        text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now()
);

INSERT INTO products (slug, name, description, price_cents, stock) VALUES
    ('verveine-odorante', 'Verveine odorante', 'Feuilles entières séchées à l''ombre, pour une infusion citronnée du soir.', 690, 100000),
    ('tilleul-des-baronnies', 'Tilleul des Baronnies', 'Inflorescences et bractées, douces et miellées.', 750, 100000),
    ('camomille-matricaire', 'Camomille matricaire', 'Capitules entiers, récoltés à pleine floraison.', 620, 100000),
    ('menthe-poivree', 'Menthe poivrée', 'Vive et fraîche, à boire chaude ou glacée.', 540, 100000),
    ('thym-de-provence', 'Thym de Provence', 'Sommités fleuries, pour la cuisine et les hivers rudes.', 480, 100000),
    ('baume-calendula', 'Baume au calendula', 'Macérat de soucis et cire d''abeille, pour les mains qui travaillent.', 1290, 100000);
