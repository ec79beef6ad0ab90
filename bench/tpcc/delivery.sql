\set w random(1, :scale)
\set carrier random(1, 10)
BEGIN;
WITH oldest AS MATERIALIZED (
	SELECT d, (SELECT no_o_id FROM new_order WHERE no_w_id = :w AND no_d_id = d ORDER BY no_o_id LIMIT 1) AS o
	FROM generate_series(1, 10) d
), gone AS (
	DELETE FROM new_order USING oldest WHERE no_w_id = :w AND no_d_id = d AND no_o_id = o RETURNING d, o
), carried AS (
	UPDATE orders SET o_carrier_id = :carrier FROM gone WHERE o_w_id = :w AND o_d_id = d AND o_id = o RETURNING d, o, o_c_id
), delivered AS (
	UPDATE order_line SET ol_delivery_d = now() FROM gone WHERE ol_w_id = :w AND ol_d_id = d AND ol_o_id = o RETURNING d, ol_amount
)
UPDATE customer SET c_balance = c_balance + amount, c_delivery_cnt = c_delivery_cnt + 1
	FROM (SELECT carried.d, o_c_id, sum(ol_amount) AS amount FROM carried JOIN delivered USING (d) GROUP BY carried.d, o_c_id ORDER BY 1) x
	WHERE c_w_id = :w AND c_d_id = x.d AND c_id = o_c_id;
COMMIT;
\if :think > 0
\sleep :think ms
\endif
