\set w random(1, :scale)
\set d random(1, 10)
\set c (random(0, 127) | random(1, 300)) % 300 + 1
\set last (random(0, 63) | random(0, 99)) % 100
\set cents random(100, 500000)
\set away random(1, 100)
\set cw random(1, :scale)
\set cd random(1, 10)
\if :away > 15
\set cw :w
\set cd :d
\endif
\set by_name random(1, 100)
BEGIN;
UPDATE warehouse SET w_ytd = w_ytd + :cents / 100.0 WHERE w_id = :w;
SELECT w_street_1, w_street_2, w_city, w_state, w_zip, w_name FROM warehouse WHERE w_id = :w;
UPDATE district SET d_ytd = d_ytd + :cents / 100.0 WHERE d_w_id = :w AND d_id = :d
	RETURNING d_street_1, d_street_2, d_city, d_state, d_zip, d_name;
\if :by_name <= 60
SELECT c_id AS c FROM (SELECT c_id, row_number() OVER (ORDER BY c_first) AS r, count(*) OVER () AS n
	FROM customer WHERE c_w_id = :cw AND c_d_id = :cd AND c_last = last_name(:last)) x WHERE r = (n + 1) / 2 \gset
\endif
UPDATE customer SET c_balance = c_balance - :cents / 100.0, c_ytd_payment = c_ytd_payment + :cents / 100.0, c_payment_cnt = c_payment_cnt + 1,
		c_data = CASE WHEN c_credit = 'BC' THEN left(concat_ws(' ', c_id, c_d_id, c_w_id, :d::int, :w::int, :cents::int, c_data), 500) ELSE c_data END
	WHERE c_w_id = :cw AND c_d_id = :cd AND c_id = :c RETURNING c_first, c_middle, c_last, c_phone, c_credit, c_balance;
INSERT INTO history VALUES (:c, :cd, :cw, :d, :w, now(), :cents / 100.0, 'payment at ' || :w::int || ' ' || :d::int);
COMMIT;
\if :think > 0
\sleep :think ms
\endif
