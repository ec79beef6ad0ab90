-- A database like that of TPC-C: its tables, its columns and its keys, with a tenth of its items and of
-- its customers and orders in a district. psql -v scale=WAREHOUSES -v words=BOOLEAN -f schema.sql
--
-- Text is as random as TPC-C asks for (letters and digits, even distribution): nothing in it that
-- compression could take advantage of but that there are only 62 characters. Or, if words: of English
-- words, the more frequent the earlier they stand in the list, by Zipf's law.

\if :words
CREATE FUNCTION a_text(length int) RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT substr(string_agg(word[floor(cardinality(word) ^ random())::int], ' '), 1, length)
	FROM generate_series(1, length / 2 + 1),
		(SELECT string_to_array('the of and to in for on with order from by at item price street delivery north not customer '
			'is paid account was new south left date be park number as last main stock box blue it east road door west call '
			'next year house red floor week first after large house green month before market second small three credit '
			'letter white invoice return river total morning office black supply carrier two payment water service bridge '
			'station silver quality company garden evening paper unit copper school machine field corner window standard '
			'round engine winter hotel square cotton harbour summer metal packet spring glass insurance plastic village '
			'castle electric wooden railway agreement leather autumn chapel warehouse reference mountain discount orchard '
			'regional cardboard afternoon temporary discontinued', ' ') AS word) AS w
$$;
\else
CREATE FUNCTION a_text(length int) RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT substr(string_agg(translate(encode(sha512(random()::text::bytea), 'base64'), E'\n=+/', ''), ''), 1, length)
	FROM generate_series(1, length / 80 + 1)
$$;
\endif

-- Customers are also asked for by name: three of ten syllables.
CREATE FUNCTION last_name(number int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT s[number / 100 % 10 + 1] || s[number / 10 % 10 + 1] || s[number % 10 + 1]
	FROM (SELECT ARRAY['BAR', 'OUGHT', 'ABLE', 'PRI', 'PRES', 'ESE', 'ANTI', 'CALLY', 'ATION', 'EING']) AS x (s)
$$;

CREATE TABLE warehouse (
	w_id int, w_name text, w_street_1 text, w_street_2 text, w_city text, w_state text, w_zip text,
	w_tax numeric(4, 4), w_ytd numeric(12, 2)
) WITH (fillfactor = 10);
CREATE TABLE district (
	d_w_id int, d_id int, d_name text, d_street_1 text, d_street_2 text, d_city text, d_state text, d_zip text,
	d_tax numeric(4, 4), d_ytd numeric(12, 2), d_next_o_id int
) WITH (fillfactor = 10);
CREATE TABLE customer (
	c_w_id int, c_d_id int, c_id int, c_first text, c_middle text, c_last text, c_street_1 text, c_street_2 text,
	c_city text, c_state text, c_zip text, c_phone text, c_since timestamptz, c_credit text, c_credit_lim numeric(12, 2),
	c_discount numeric(4, 4), c_balance numeric(12, 2), c_ytd_payment numeric(12, 2), c_payment_cnt int,
	c_delivery_cnt int, c_data text
);
CREATE TABLE history (
	h_c_id int, h_c_d_id int, h_c_w_id int, h_d_id int, h_w_id int, h_date timestamptz, h_amount numeric(6, 2), h_data text
);
CREATE TABLE new_order (no_w_id int, no_d_id int, no_o_id int);
CREATE TABLE orders (
	o_w_id int, o_d_id int, o_id int, o_c_id int, o_entry_d timestamptz, o_carrier_id int, o_ol_cnt int, o_all_local int
);
CREATE TABLE order_line (
	ol_w_id int, ol_d_id int, ol_o_id int, ol_number int, ol_i_id int, ol_supply_w_id int, ol_delivery_d timestamptz,
	ol_quantity int, ol_amount numeric(6, 2), ol_dist_info text
);
CREATE TABLE item (i_id int, i_im_id int, i_name text, i_price numeric(5, 2), i_data text);
CREATE TABLE stock (
	s_w_id int, s_i_id int, s_quantity int, s_dist_01 text, s_dist_02 text, s_dist_03 text, s_dist_04 text, s_dist_05 text,
	s_dist_06 text, s_dist_07 text, s_dist_08 text, s_dist_09 text, s_dist_10 text, s_ytd int, s_order_cnt int,
	s_remote_cnt int, s_data text
);

INSERT INTO warehouse
	SELECT w, a_text(8), a_text(15), a_text(15), a_text(15), a_text(2), a_text(4) || '11111', random() * 0.2, 300000
	FROM generate_series(1, :scale) w;
INSERT INTO district
	SELECT w, d, a_text(8), a_text(15), a_text(15), a_text(15), a_text(2), a_text(4) || '11111', random() * 0.2, 30000, 301
	FROM generate_series(1, :scale) w, generate_series(1, 10) d;
INSERT INTO customer
	SELECT w, d, c, a_text(12), 'OE', last_name(c % 100), a_text(15), a_text(15), a_text(15), a_text(2),
		a_text(4) || '11111', a_text(16), now(), CASE WHEN random() < 0.1 THEN 'BC' ELSE 'GC' END, 50000, random() * 0.5,
		-10, 10, 1, 0, a_text(300 + (random() * 200)::int)
	FROM generate_series(1, :scale) w, generate_series(1, 10) d, generate_series(1, 300) c;
INSERT INTO history
	SELECT c_id, c_d_id, c_w_id, c_d_id, c_w_id, now(), 10, a_text(18) FROM customer;
INSERT INTO orders
	SELECT w, d, o, (o * 7 + 11) % 300 + 1, now(), CASE WHEN o < 211 THEN 1 + (random() * 9)::int END, 5 + (random() * 10)::int, 1
	FROM generate_series(1, :scale) w, generate_series(1, 10) d, generate_series(1, 300) o;
INSERT INTO new_order
	SELECT o_w_id, o_d_id, o_id FROM orders WHERE o_carrier_id IS NULL;
INSERT INTO order_line
	SELECT o_w_id, o_d_id, o_id, n, 1 + (random() * 9999)::int, o_w_id, CASE WHEN o_carrier_id IS NOT NULL THEN o_entry_d END, 5,
		CASE WHEN o_carrier_id IS NULL THEN (random() * 9999)::numeric(6, 2) ELSE 0 END, a_text(24)
	FROM orders, generate_series(1, o_ol_cnt) n;
INSERT INTO item
	SELECT i, 1 + (random() * 9999)::int, a_text(14 + (random() * 10)::int), 1 + random() * 99, a_text(26 + (random() * 24)::int)
	FROM generate_series(1, 10000) i;
INSERT INTO stock
	SELECT w, i, 10 + (random() * 90)::int, a_text(24), a_text(24), a_text(24), a_text(24), a_text(24), a_text(24), a_text(24),
		a_text(24), a_text(24), a_text(24), 0, 0, 0, a_text(26 + (random() * 24)::int)
	FROM generate_series(1, :scale) w, generate_series(1, 10000) i;

ALTER TABLE warehouse ADD PRIMARY KEY (w_id);
ALTER TABLE district ADD PRIMARY KEY (d_w_id, d_id);
ALTER TABLE customer ADD PRIMARY KEY (c_w_id, c_d_id, c_id);
CREATE INDEX customer_by_name ON customer (c_w_id, c_d_id, c_last, c_first);
ALTER TABLE new_order ADD PRIMARY KEY (no_w_id, no_d_id, no_o_id);
ALTER TABLE orders ADD PRIMARY KEY (o_w_id, o_d_id, o_id);
CREATE INDEX orders_by_customer ON orders (o_w_id, o_d_id, o_c_id, o_id);
ALTER TABLE order_line ADD PRIMARY KEY (ol_w_id, ol_d_id, ol_o_id, ol_number);
ALTER TABLE item ADD PRIMARY KEY (i_id);
ALTER TABLE stock ADD PRIMARY KEY (s_w_id, s_i_id);

VACUUM ANALYZE;
