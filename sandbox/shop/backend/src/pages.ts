/** The few HTML pages of the shop. */

import type { Product } from "./catalogue.js";
import type { Order } from "./orders.js";

const STYLE = `body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem;color:#222;background:#fff}
nav a{margin-right:1rem}ul.products{list-style:none;padding:0;display:grid;grid-template-columns:repeat(auto-fill,minmax(16rem,1fr));gap:1rem}
.products li{border:1px solid #bbb;border-radius:.5rem;padding:1rem}table{border-collapse:collapse}td,th{padding:.3rem .8rem;text-align:left}`;

export function home(version: string): string {
  return page("HerbisVeritas", `<h1>HerbisVeritas</h1><p>Plantes et préparations d'herboristerie.</p><p><a href="/shop">Voir la boutique</a></p><footer>version ${escape(version)}</footer>`);
}

export function shop(products: Product[]): string {
  const items = products.map(
    (product) => `<li data-product="${product.id}"><h2>${escape(product.name)}</h2><p>${escape(product.description)}</p>
${product.origin ? `<p>Origine : ${escape(product.origin)}</p>` : ""}<p><strong>${euros(product.priceCents)}</strong></p></li>`,
  );
  return page("Boutique", `<h1>Boutique</h1><ul class="products">${items.join("\n")}</ul>`);
}

export function login(problem?: string): string {
  return page(
    "Connexion",
    `<h1>Connexion</h1>${problem ? `<p role="alert">${escape(problem)}</p>` : ""}<form method="post" action="/login">
<p><label>E-mail <input name="email" type="email" autocomplete="username" required></label></p>
<p><label>Mot de passe <input name="password" type="password" autocomplete="current-password" required></label></p>
<p><button>Se connecter</button></p></form>`,
  );
}

export function admin(orders: (Order & { email: string })[]): string {
  const rows = orders.map(
    (order) => `<tr><td>${order.id}</td><td>${escape(order.email)}</td><td>${order.status}</td><td>${euros(order.totalCents)}</td></tr>`,
  );
  return page("Administration", `<h1>Commandes</h1><table><tr><th>N°</th><th>Client</th><th>État</th><th>Total</th></tr>${rows.join("\n")}</table>`);
}

export function message(title: string, text: string): string {
  return page(title, `<h1>${escape(title)}</h1><p>${escape(text)}</p>`);
}

function page(title: string, body: string): string {
  return `<!doctype html>
<html lang="fr"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(title)}</title><meta name="description" content="Plantes et préparations d'herboristerie"><style>${STYLE}</style></head>
<body><nav><a href="/">Accueil</a><a href="/shop">Boutique</a><a href="/login">Connexion</a></nav><main>${body}</main></body></html>
`;
}

function euros(cents: number): string {
  return `${(cents / 100).toFixed(2).replace(".", ",")} €`;
}

const ENTITIES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ENTITIES[character] ?? character);
}
