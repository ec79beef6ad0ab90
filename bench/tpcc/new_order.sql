\set w random(1, :scale)
\set d random(1, 10)
\set c (random(0, 127) | random(1, 300)) % 300 + 1
\set lines random(5, 15)
\set unused random(1, 100)
BEGIN;
SELECT w_tax FROM warehouse WHERE w_id = :w;
UPDATE district SET d_next_o_id = d_next_o_id + 1 WHERE d_w_id = :w AND d_id = :d RETURNING d_next_o_id - 1 AS o, d_tax \gset
SELECT c_discount, c_last, c_credit FROM customer WHERE c_w_id = :w AND c_d_id = :d AND c_id = :c;
INSERT INTO orders VALUES (:w, :d, :o, :c, now(), NULL, :lines, 1);
INSERT INTO new_order VALUES (:w, :d, :o);
WITH line AS MATERIALIZED (
	SELECT n, ((random() * 1023)::int | (random() * 9999)::int) % 10000 + 1 AS i, 1 + (random() * 9)::int AS quantity,
		CASE WHEN random() < 0.01 THEN 1 + (:w + (random() * :scale)::int) % :scale ELSE :w END AS supply
	FROM generate_series(1, :lines) n ORDER BY supply, i
), taken AS (
	UPDATE stock SET s_quantity = CASE WHEN s_quantity >= quantity + 10 THEN s_quantity - quantity ELSE s_quantity - quantity + 91 END,
		s_ytd = s_ytd + quantity, s_order_cnt = s_order_cnt + 1, s_remote_cnt = s_remote_cnt + CASE WHEN supply = :w THEN 0 ELSE 1 END
	FROM line WHERE s_w_id = supply AND s_i_id = i
	RETURNING s_w_id, s_i_id, s_dist_01
)
INSERT INTO order_line
	SELECT :w, :d, :o, n, i, supply, NULL, quantity, quantity * i_price, s_dist_01
	FROM line JOIN taken ON s_w_id = supply AND s_i_id = i JOIN item ON i_id = i;
\if :unused = 1
ROLLBACK;
\else
COMMIT;
\endif
\if :think > 0
\sleep :think ms
\endif
